"""Results of trainings, kept in the store as derived data, so that reports show them beside those of the probes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.samples import SampleTable
from probes.results import IDENTITY, Run

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

TRAINED = "trained"
"""Kind of these entries in a store."""

_LIBRARIES = ("skyprobe", "torch", "torchvision", "timm", "transformers", "open_clip_torch", "peft", "numpy")

_PLAIN = (*IDENTITY, "n_train", "n_valid", "n_features", "params", "seconds")
_ARRAYS = ("truth", "probabilities")


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that can change a number."""
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def keep_run(store: FeatureStore, identity: str, run: Run, table: SampleTable) -> None:
    """Keep a run under the digest of what decided it.

    Args:
        store: A store opened for writing; it gets to know the dataset too, whose rows the entry names.
        identity: Digest of everything that decides the numbers.
        run: The run.
        table: All samples of its dataset.
    """
    row_of = dict(zip(table.sample_ids, store.put_dataset(table).tolist(), strict=True))
    rows = np.array([row_of[name] for name in run.sample_ids], dtype=np.int64)
    arrays = {"rows": rows} | {name: getattr(run, name) for name in _ARRAYS}
    attributes = {name: getattr(run, name) for name in _PLAIN} | {"classes": list(run.classes)}
    store.put_derived(TRAINED, identity, arrays, attributes)


def kept_run(store: FeatureStore, identity: str) -> Run | None:
    """The run of that digest; None if there is none."""
    entry = store.get_derived(TRAINED, identity)
    if entry is None:
        return None
    fields: dict[str, Any] = dict(entry.attributes)
    ids = store.sample_ids(fields["dataset"])
    fields["classes"] = tuple(fields["classes"])
    fields["sample_ids"] = tuple(ids[row] for row in entry.arrays["rows"].tolist())
    fields |= {name: entry.arrays[name] for name in _ARRAYS}
    return Run(**fields)


def kept_runs(store: FeatureStore, datasets: Sequence[str], scheme: str | None = None) -> list[Run]:
    """All kept runs on these datasets, in the order of their digests.

    Args:
        store: Where they are.
        datasets: Names of datasets, as the store has them.
        scheme: Label scheme; None: the default one of each dataset.
    """
    schemes = {name: store.dataset(name).scheme(scheme) for name in datasets}
    found = [kept_run(store, identity) for identity in store.list_derived(TRAINED)]
    return [run for run in found if run and schemes.get(run.dataset) == run.scheme]
