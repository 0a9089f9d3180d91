"""The grid of probes: heads x label fractions x seeds. The only place that knows splits; heads see ``X, y`` alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from featurestore.errors import UsageError
from featurestore.store.features import FeatureMatrix, FeatureSet
from featurestore.store.key import digest
from featurestore.training_rows import check_test_rows, recorded_rows
from featurestore.versions import library_versions
from featurestore.workers import count_processors
from probes.heads.registry import HEADS, REVISION, Head, head_params, spread
from probes.results.json_values import json_ready
from probes.results.run import Run
from probes.solvers.factorisation import SharedRows
from probes.sweep.cache import keep_run, kept_run
from probes.sweep.memory import check_vectors
from probes.sweep.splits import Rows, Split, check_fractions, describe_split, order_rows, split_rows
from probes.sweep.streaming import check_heads, describe_streaming, fit_heads, predict_heads
from probes.sweep.tasks import Task

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

Validation = Literal["split", "rest", "none"]
Progress = Callable[[Run], None]
Done = Callable[[int, Run], None]

RUNS = "runs"
"""Kind of the cached runs in a store."""


class FitOptions(TypedDict, total=False):
    """How heads are fitted, as keywords; see `plan`."""

    protocol: str
    scheme: str | None
    validation: Validation
    allow_seen_rows: bool
    options: Mapping[str, Mapping[str, Any]]


class Grid(FitOptions, total=False):
    """What a sweep covers, as keywords; see `plan`."""

    fractions: Sequence[int]
    seeds: int | Sequence[int]


def sweep(
    features: FeatureMatrix,
    heads: Sequence[str],
    *,
    n_jobs: int | None = None,
    progress: Progress | None = None,
    **grid: Unpack[Grid],
) -> list[Run]:
    """Fit every head on every label fraction with every seed, and predict the test rows.

    Args:
        features: FeatureMatrix with labels and splits, in memory or in their store.
        heads: Names of heads.
        n_jobs: Fits at a time; one a core for None. The numbers do not depend on it.
        progress: Called with each run as soon as it is done.
        grid: See `plan`.

    Returns:
        Runs by head, then fraction, then seed, in the order given.
    """
    return fit_many(features, plan(features, heads, **grid), n_jobs=n_jobs, done=lambda _, run: _tell(run, progress))


def cached_sweep(
    store: FeatureStore,
    features: FeatureMatrix,
    heads: Sequence[str],
    *,
    n_jobs: int | None = None,
    progress: Progress | None = None,
    **grid: Unpack[Grid],
) -> list[Run]:
    """`sweep`, but runs that the store knows are read, and the others are kept as soon as they are done.

    Every run is an entry of its own: more seeds or fractions cost only the new ones. An entry is named by all that
    decides its numbers: the features' key and content, labels and splits, rows, head, parameters, library versions.
    A store that does not know the dataset gets to know these samples of it.
    """
    tasks = plan(features, heads, **grid)
    digests = task_digests(features, tasks)
    if features.table.name not in store.datasets():
        store.put_dataset(features.table)
    runs: dict[str, Run] = {}
    for name, task in zip(digests, tasks, strict=True):
        if (known := kept_run(store, RUNS, name)) is not None:
            runs[name] = replace(known, split=task.split)  # which older versions did not cache
            _tell(runs[name], progress)
    fresh = [number for number, name in enumerate(digests) if name not in runs]

    def keep(number: int, run: Run) -> None:
        name = digests[fresh[number]]
        keep_run(store, RUNS, name, run, features.key)
        runs[name] = run
        _tell(run, progress)

    fit_many(features, [tasks[number] for number in fresh], n_jobs=n_jobs, done=keep)
    return [runs[name] for name in digests]


def plan(
    features: FeatureMatrix,
    heads: Sequence[str],
    *,
    protocol: str = "convex",
    fractions: Sequence[int] = (10, 30, 50, 100),
    seeds: int | Sequence[int] = 3,
    scheme: str | None = None,
    validation: Validation = "none",
    allow_seen_rows: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Task]:
    """Decide rows and parameters of every fit; nothing is fitted yet.

    Args:
        features: FeatureMatrix with labels and splits, in memory or in their store.
        heads: Names of heads.
        protocol: ``convex`` or ``paper``.
        fractions: Whole percents of the training labels.
        seeds: Their number (0, 1, ...) or the seeds themselves.
        scheme: Label scheme; the dataset's default for None.
        validation: Labelled rows outside the fraction that a head may choose a strength or an epoch by under
            ``convex``: ``none``, so that it chooses inside the fraction; the valid ``split`` of the dataset; or the
            ``rest`` of the training rows. Heads look at none where features stay in their store.
        allow_seen_rows: Whether a backbone may be tested on rows that it was trained on; its runs state how many.
        options: Name of a head -> its parameters, for example ``{"linear": {"epochs": 200}}``.

    Raises:
        UnknownNameError: No such head or label scheme.
        UsageError: A protocol, parameter or number of seeds that does not exist.
        SeenRowsError: The backbone was trained on test rows.
        LabelMismatchError, ProbeError: See `probes.sweep.splits`, and of `probes.sweep.streaming.check_heads` and
            `check_vectors`.
    """
    check_fractions(fractions)
    _check_names(heads, validation, options or {})
    check_vectors(features)
    check_heads(features, heads)
    table, scheme = features.table, features.table.scheme(scheme)
    split = split_rows(table, scheme)
    orders = {seed: order_rows(table, split.train, scheme, seed) for seed in _seed_list(seeds)}
    known = np.unique(table.labels[scheme][split.train])
    usable_valid = split.valid[np.isin(table.labels[scheme][split.valid], known)]
    told = describe_split(table, scheme)
    tested = [table.sample_ids[row] for row in split.test]
    seen = check_test_rows(recorded_rows(features.provenance), tested, table.name, allow=allow_seen_rows)
    notes = _notes(features, scheme, split) | describe_streaming(features, protocol) | seen

    def task(head: str, fraction: int, seed: int) -> Task:
        train, rest = orders[seed].divide(fraction)
        chooses = HEADS.get(head).uses_validation and protocol == "convex" and features.block_rows is None
        valid = {"split": usable_valid, "rest": rest}.get(validation, rest[:0]) if chooses else rest[:0]
        chosen_by = {"validation": validation} if len(valid) else {}
        given = (options or {}).get(head, {})
        stated = notes | chosen_by | ({"options": dict(given)} if given else {})
        params = head_params(head, protocol, seed, given)
        return Task(head, params, protocol, scheme, fraction, seed, train, split.train, valid, split.test, stated, told)

    return [task(head, fraction, seed) for head in heads for fraction in fractions for seed in orders]


def fit_many(
    features: FeatureMatrix, tasks: Sequence[Task], *, n_jobs: int | None = None, done: Done | None = None
) -> list[Run]:
    """Fit independent tasks on threads, each with one thread of linear algebra; runs come in the order of the tasks.

    Features that stay in their store are read for all tasks together.

    Args:
        features: FeatureMatrix with labels, in memory or in their store.
        tasks: What to fit.
        n_jobs: Fits at a time; one a core for None.
        done: Called with the number of a task and its run, as soon as it is done.
    """
    n_jobs = count_processors() if n_jobs is None else n_jobs
    if n_jobs < 1:
        raise UsageError(f"n_jobs is {n_jobs}", where="n_jobs", hint="Give 1 or more fits at a time.")
    runs: dict[int, Run] = {}
    with (
        threadpool_limits(limits=1),
        ThreadPoolExecutor(n_jobs, initializer=threadpool_limits, initargs=(1,)) as pool,
    ):
        for number, run in _fit(features, tasks, pool):
            runs[number] = run
            if done:
                done(number, run)
    return [runs[number] for number in range(len(tasks))]


def _fit(features: FeatureMatrix, tasks: Sequence[Task], pool: Executor) -> Iterator[tuple[int, Run]]:
    if features.block_rows is None:
        return _fit_in_memory(features.read(), tasks, pool)
    return _stream(features, tasks, pool)


def _fit_in_memory(features: FeatureSet, tasks: Sequence[Task], pool: Executor) -> Iterator[tuple[int, Run]]:
    """Runs with the numbers of their tasks, as they are done; the longest fits begin first, and cores end together."""
    shared = SharedRows(features.values)
    longest_first = sorted(range(len(tasks)), key=lambda number: -len(tasks[number].train))
    futures = {pool.submit(run_task, features, tasks[number], shared): number for number in longest_first}
    failure: BaseException | None = None
    try:
        for future in as_completed(futures):
            if future.cancelled():
                continue
            if (error := future.exception()) is None:
                yield futures[future], future.result()
            elif failure is None:  # what has begun is finished and told, so that it need not be done again
                failure = error
                _cancel(futures)
        if failure:
            raise failure
    finally:
        _cancel(futures)


def _cancel(futures: Iterable[Future[Run]]) -> None:
    """Give up what has not begun."""
    for future in futures:
        future.cancel()


def run_task(features: FeatureSet, task: Task, shared: SharedRows) -> Run:
    """Fit one task and predict its test rows."""
    start = perf_counter()
    head = fit_head(features, task, shared)
    probabilities = predict_rows(features, head, task.test)
    return _conclude(features, task, head, probabilities, perf_counter() - start)


def _stream(features: FeatureMatrix, tasks: Sequence[Task], pool: Executor) -> Iterator[tuple[int, Run]]:
    """Fit all tasks at once, if there are any; their runs share the time."""
    if tasks:
        start = perf_counter()
        heads = fit_heads(features, tasks, pool)
        predicted = predict_heads(features, heads, [task.test for task in tasks])
        share = (perf_counter() - start) / len(tasks)
        for number, (task, head, probabilities) in enumerate(zip(tasks, heads, predicted, strict=True)):
            yield number, _conclude(features, task, head, probabilities, share)


def _conclude(
    features: FeatureMatrix, task: Task, head: Head, probabilities: NDArray[np.floating], seconds: float
) -> Run:
    params = json_ready({**head.get_params(), **head.chosen_, **task.notes})
    columns = spread(probabilities, head.classes_, len(features.table.classes[task.scheme]))
    return _make_run(features, task, columns, params, seconds)


def fit_head(features: FeatureSet, task: Task, shared: SharedRows) -> Head:
    """The head of a task, fitted on its training rows alone.

    Args:
        features: FeatureMatrix with labels.
        task: What to fit.
        shared: What the head may share with others that are fitted on these features.
    """
    head, labels, rows = task.build(), features.table.labels[task.scheme], task.train
    more: dict[str, Any] = {}
    if len(task.valid):
        more = {"X_valid": features.values[task.valid], "y_valid": labels[task.valid]}
    match getattr(head, "wants", None):
        case "exact":
            more["shared"] = shared.exact(rows)
        case "similar":
            more["shared"] = shared.similar(rows, task.pool)
        case "standardised":
            rows = np.sort(rows)  # all seeds of the whole training set learn from one matrix
            more["shared"] = shared.standardised(rows)
    return head.fit(features.values[rows], labels[rows], **more)


def predict_rows(features: FeatureSet, head: Head, rows: Rows) -> NDArray[np.floating]:
    """Probabilities of some rows, (len(rows), len(head.classes_))."""
    return head.predict_proba(features.values[rows])


def task_digests(features: FeatureMatrix, tasks: Sequence[Task]) -> list[str]:
    """SHA-256 of each task, over everything that decides its numbers, and the names that its run goes by."""
    shared = {
        "names": [features.table.name, features.variant, features.backbone],
        "key": features.key.sha256,
        "pooling": features.pooling,
        "content": _content_digest(features),
        "labels": {scheme: features.table.label_digest(scheme) for scheme in {task.scheme for task in tasks}},
        "revision": REVISION,
        "libraries": library_versions("probing"),
    }
    return [digest(shared | _task_identity(task)) for task in tasks]


def _content_digest(features: FeatureMatrix) -> str:
    """SHA-256 of the values as float32, wherever they are."""
    sha = hashlib.sha256()
    for _, values in features.blocks():
        sha.update(np.ascontiguousarray(values).data)
    return sha.hexdigest()


def _task_identity(task: Task) -> dict[str, Any]:
    rows = b"".join(part.tobytes() for part in (task.train, task.valid, task.test))
    return {
        "rows": hashlib.sha256(rows).hexdigest(),
        "head": task.head,
        "params": json_ready(task.build().get_params()),
        "protocol": task.protocol,
        "scheme": task.scheme,
        "fraction": task.fraction,
        "seed": task.seed,
        "notes": json_ready(task.notes),
    }


def _make_run(
    features: FeatureMatrix, task: Task, probabilities: NDArray[np.float32], params: Mapping[str, Any], seconds: float
) -> Run:
    table = features.table
    return Run(
        dataset=table.name,
        variant=features.variant,
        backbone=features.backbone,
        pooling=features.pooling,
        key=features.key.short,
        scheme=task.scheme,
        head=task.head,
        protocol=task.protocol,
        fraction=task.fraction,
        seed=task.seed,
        n_train=len(task.train),
        n_valid=len(task.valid),
        n_features=features.shape[1],
        classes=table.classes[task.scheme],
        sample_ids=tuple(table.sample_ids[row] for row in task.test),
        truth=table.labels[task.scheme][task.test],
        probabilities=probabilities,
        params=params,
        seconds=seconds,
        split=task.split,
    )


def _notes(features: FeatureMatrix, scheme: str, split: Split) -> dict[str, Any]:
    """What every run of a scheme has to state: classes that are tested but cannot be learnt."""
    labels, classes = features.table.labels[scheme], features.table.classes[scheme]
    absent = np.setdiff1d(labels[split.test], labels[split.train])
    return {"absent_from_train": [classes[label] for label in absent]} if len(absent) else {}


def _seed_list(seeds: int | Sequence[int]) -> list[int]:
    listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not listed or min(listed) < 0:
        raise UsageError(f"seeds are {seeds}", where="seeds", hint="Give a number of seeds, 1 or more.")
    return listed


def _check_names(heads: Sequence[str], validation: str, options: Mapping[str, Any]) -> None:
    if validation not in get_args(Validation):
        hint = f"Use one of {', '.join(get_args(Validation))}."
        raise UsageError(f"unknown validation rows {validation!r}", where="validation", hint=hint)
    if unused := sorted(set(options) - set(heads)):
        raise UsageError(
            f"options for heads that are not asked for: {', '.join(unused)}",
            where="options",
            hint=f"Heads asked for: {', '.join(heads)}.",
        )


def _tell(run: Run, progress: Progress | None) -> None:
    if progress:
        progress(run)
