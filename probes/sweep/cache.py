"""Runs in a store: each is an entry of its own, and says all of itself, so that reports and advice find it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.errors import ProbeError
from featurestore.store.dependants import KEYS, list_keys
from featurestore.store.features import FeatureMatrix
from featurestore.store.key import digest
from featurestore.versions import library_versions
from probes.heads.registry import REVISION
from probes.results.former_names import read_params
from probes.results.json_values import json_ready
from probes.results.run import IDENTITY, Run
from probes.solvers.backend import backend_versions
from probes.sweep.tasks import Task

if TYPE_CHECKING:
    from featurestore.store import FeatureStore
    from featurestore.store.key import FeatureKey

RUNS = "runs"
"""Kind of the runs of heads in a store."""

_PLAIN = (*IDENTITY, "n_train", "n_valid", "n_features", "params", "seconds", "split", "origin")
_ARRAYS = ("truth", "probabilities")


def save_run(store: FeatureStore, kind: str, identity: str, run: Run, key: FeatureKey | None = None) -> None:
    """Save a run under the digest of what decided it.

    Args:
        store: A store opened for writing, which knows the dataset: the entry names the rows that it has there.
        kind: Kind of the entry: ``runs`` for heads on stored features, ``trained`` for trainings.
        identity: Digest of everything that decides the numbers.
        run: The run.
        key: Identity of the features; None for a training, which has none.

    Raises:
        MissingFeaturesError: The store does not know the dataset.
        ProbeError: It does not know all test samples.
    """
    row_of = {name: row for row, name in enumerate(store.sample_ids(run.dataset))}
    unknown = [name for name in run.sample_ids if name not in row_of]
    if unknown:
        source = store.source(run.dataset) or run.dataset
        raise ProbeError(
            f"the store does not know {len(unknown)} test samples, the first is {unknown[0]!r}",
            where=run.dataset,
            hint=f"Extract the dataset again, or use another store: skyprobe extract {quote(source)}.",
        )
    rows = np.array([row_of[name] for name in run.sample_ids], dtype=np.int64)
    arrays = {"rows": rows} | {name: getattr(run, name) for name in _ARRAYS}
    attributes = {name: getattr(run, name) for name in _PLAIN} | {"classes": list(run.classes)}
    attributes |= {KEYS: list_keys(key)} if key else {}
    store.put_cached(kind, identity, arrays, attributes)


def cached_run(store: FeatureStore, kind: str, identity: str) -> Run | None:
    """The run of that digest; None if there is none, or one that does not say what it is of."""
    entry = store.get_cached(kind, identity)
    if entry is None or "dataset" not in entry.attributes:
        return None
    fields: dict[str, Any] = {name: value for name, value in entry.attributes.items() if name != KEYS}
    ids = store.sample_ids(fields["dataset"])
    fields["classes"], fields["params"] = tuple(fields["classes"]), read_params(fields["params"])
    fields["sample_ids"] = tuple(ids[row] for row in entry.arrays["rows"].tolist())
    fields |= {name: entry.arrays[name] for name in _ARRAYS}
    return Run(**fields)


def cached_runs(store: FeatureStore, kind: str, datasets: Sequence[str], scheme: str | None = None) -> list[Run]:
    """All cached runs of one kind on these datasets, in the order of their digests.

    Args:
        store: Where they are.
        kind: See `save_run`.
        datasets: Names of datasets, as the store has them.
        scheme: Label scheme, which need not be one of the stored table; None: the default one of each dataset.
    """
    schemes = {name: scheme or store.dataset(name).scheme() for name in datasets}
    found = [cached_run(store, kind, identity) for identity in store.list_cached(kind)]
    return [run for run in found if run and schemes.get(run.dataset) == run.scheme]


def task_digests(features: FeatureMatrix, tasks: Sequence[Task]) -> list[str]:
    """SHA-256 of each task, over everything that decides its numbers, and the names that its run goes by."""
    shared = {
        "names": [features.table.name, features.variant, features.backbone],
        "key": features.key.sha256,
        "pooling": features.pooling,
        "content": _content_digest(features),
        "labels": {scheme: features.table.label_digest(scheme) for scheme in {task.scheme for task in tasks}},
        "revision": REVISION,
        "libraries": library_versions("probing") | backend_versions(),
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
