"""The grid of probes: heads x label fractions x seeds. Heads see ``X, y`` and groups alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from featurestore.errors import UsageError
from featurestore.store.features import FeatureMatrix, FeatureSet
from featurestore.workers import count_processors
from probes.heads.registry import Head, expand_classes
from probes.results.json_values import json_ready
from probes.results.run import Run
from probes.solvers.factorisation import SharedRows
from probes.sweep.cache import RUNS, cached_run, save_run, task_digests
from probes.sweep.plan import Grid, plan
from probes.sweep.splits import Rows, name_groups
from probes.sweep.streaming import fit_heads, predict_heads
from probes.sweep.tasks import Task

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

Progress = Callable[[Run], None]
Done = Callable[[int, Run], None]


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
    """`sweep`, but runs that the store knows are read, and the others are saved as soon as they are done.

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
        if (known := cached_run(store, RUNS, name)) is not None:
            runs[name] = replace(known, split=task.split, origin=task.origin)  # which older versions did not cache
            _tell(runs[name], progress)
    fresh = [number for number, name in enumerate(digests) if name not in runs]

    def save(number: int, run: Run) -> None:
        name = digests[fresh[number]]
        save_run(store, RUNS, name, run, features.key)
        runs[name] = run
        _tell(run, progress)

    fit_many(features, [tasks[number] for number in fresh], n_jobs=n_jobs, done=save)
    return [runs[name] for name in digests]


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
    expanded = expand_classes(probabilities, head.classes_, len(features.table.classes[task.scheme]))
    return _make_run(features, task, expanded, params, seconds)


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
    if getattr(head, "uses_groups", False) and (groups := name_groups(features.table, rows)) is not None:
        more["groups"] = groups
    return head.fit(features.values[rows], labels[rows], **more)


def predict_rows(features: FeatureSet, head: Head, rows: Rows) -> NDArray[np.floating]:
    """Probabilities of some rows, (len(rows), len(head.classes_))."""
    return head.predict_proba(features.values[rows])


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
        origin=task.origin,
    )


def _tell(run: Run, progress: Progress | None) -> None:
    if progress:
        progress(run)
