"""Runs of trainings in the store, so that reports and advice show them beside those of the probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probes.results.run import Run
from probes.sweep import cache as run_cache

if TYPE_CHECKING:
    from featurestore.samples import SampleTable
    from featurestore.store import FeatureStore

TRAINED = "trained"
"""Kind of these entries in a store."""


def save_run(store: FeatureStore, identity: str, run: Run, table: SampleTable) -> None:
    """Save a run under the digest of what decided it.

    Args:
        store: A store opened for writing; it gets to know the dataset too, whose rows the entry names.
        identity: Digest of everything that decides the numbers.
        run: The run.
        table: All samples of its dataset.
    """
    store.put_dataset(table)
    run_cache.save_run(store, TRAINED, identity, run)


def cached_run(store: FeatureStore, identity: str) -> Run | None:
    """The run of that digest; None if there is none."""
    return run_cache.cached_run(store, TRAINED, identity)


def cached_runs(store: FeatureStore, datasets: Sequence[str], scheme: str | None = None) -> list[Run]:
    """All cached runs on these datasets; see `probes.sweep.cache.cached_runs`."""
    return run_cache.cached_runs(store, TRAINED, datasets, scheme)
