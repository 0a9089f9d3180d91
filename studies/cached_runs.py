"""Runs that a store caches, of probes and of trainings, as far as they were tested on the labels of today."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finetune import run_cache as trainings
from probes.statistics.configurations import tested_on
from probes.sweep import cache as probes
from probes.sweep.cache import RUNS

if TYPE_CHECKING:
    from featurestore.samples import SampleTable
    from featurestore.store import FeatureStore
    from probes.results.run import Run


def probed_runs(store: FeatureStore, table: SampleTable, scheme: str) -> list[Run]:
    """All cached runs of probes on one label scheme of a dataset."""
    return probes.cached_runs(store, RUNS, [table.name], scheme)


def trained_runs(store: FeatureStore, table: SampleTable, scheme: str) -> list[Run]:
    """All cached runs of trainings, likewise."""
    return trainings.cached_runs(store, [table.name], scheme)


def part_outdated(runs: Sequence[Run], table: SampleTable, scheme: str) -> tuple[list[Run], list[Run]]:
    """Runs whose test rows have the labels that they were tested on, and those that were tested on others.

    A row that the dataset no longer has makes a run outdated. A label scheme that the table does not have comes from a
    mapping file; of its runs nothing is known, and none counts as outdated.
    """
    if scheme not in table.labels:
        return list(runs), []
    names = np.array([*table.classes[scheme], ""], dtype=object)[table.labels[scheme]]  # `UNLABELLED` is the last
    label_of = dict(zip(table.sample_ids, names, strict=True))
    known: dict[object, bool] = {}
    for run in runs:
        if (rows := tested_on(run)) not in known:
            pairs = zip(run.sample_ids, run.truth.tolist(), strict=True)
            known[rows] = all(label_of.get(sample) == run.classes[label] for sample, label in pairs)
    current = [run for run in runs if known[tested_on(run)]]
    return current, [run for run in runs if not known[tested_on(run)]]
