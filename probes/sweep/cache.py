"""Runs in a store: each is an entry of its own, and says all of itself, so that reports and advice find it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.errors import ProbeError
from featurestore.store.dependants import KEYS, list_keys
from probes.results.run import IDENTITY, Run

if TYPE_CHECKING:
    from featurestore.store import FeatureStore
    from featurestore.store.key import FeatureKey

_PLAIN = (*IDENTITY, "n_train", "n_valid", "n_features", "params", "seconds", "split")
_ARRAYS = ("truth", "probabilities")


def keep_run(store: FeatureStore, kind: str, identity: str, run: Run, key: FeatureKey | None = None) -> None:
    """Keep a run under the digest of what decided it.

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
        raise ProbeError(
            f"the store does not know {len(unknown)} test samples, the first is {unknown[0]!r}",
            where=run.dataset,
            hint="Extract the dataset again, or use another store: skyprobe extract.",
        )
    rows = np.array([row_of[name] for name in run.sample_ids], dtype=np.int64)
    arrays = {"rows": rows} | {name: getattr(run, name) for name in _ARRAYS}
    attributes = {name: getattr(run, name) for name in _PLAIN} | {"classes": list(run.classes)}
    attributes |= {KEYS: list_keys(key)} if key else {}
    store.put_cached(kind, identity, arrays, attributes)


def kept_run(store: FeatureStore, kind: str, identity: str) -> Run | None:
    """The run of that digest; None if there is none, or one that does not say what it is of."""
    entry = store.get_cached(kind, identity)
    if entry is None or "dataset" not in entry.attributes:
        return None
    fields: dict[str, Any] = {name: value for name, value in entry.attributes.items() if name != KEYS}
    ids = store.sample_ids(fields["dataset"])
    fields["classes"] = tuple(fields["classes"])
    fields["sample_ids"] = tuple(ids[row] for row in entry.arrays["rows"].tolist())
    fields |= {name: entry.arrays[name] for name in _ARRAYS}
    return Run(**fields)


def kept_runs(store: FeatureStore, kind: str, datasets: Sequence[str], scheme: str | None = None) -> list[Run]:
    """All kept runs of one kind on these datasets, in the order of their digests.

    Args:
        store: Where they are.
        kind: See `keep_run`.
        datasets: Names of datasets, as the store has them.
        scheme: Label scheme, which need not be one of the stored table; None: the default one of each dataset.
    """
    schemes = {name: scheme or store.dataset(name).scheme() for name in datasets}
    found = [kept_run(store, kind, identity) for identity in store.list_cached(kind)]
    return [run for run in found if run and schemes.get(run.dataset) == run.scheme]
