"""Runs in a store: they come back as they were, by dataset and scheme, and never for another dataset's."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from featurestore.errors import MissingFeaturesError, ProbeError
from featurestore.store import open_store
from probes.results.run import Run
from probes.sweep.cache import RUNS, cached_run, cached_runs, save_run, task_digests
from probes.sweep.plan import plan
from probes.sweep.sweep import cached_sweep


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store.zarr"), mode="a")


def test_runs_of_a_sweep_are_found_again_by_their_dataset_and_scheme(store, toy_features, fake_heads):
    runs = cached_sweep(
        store, toy_features, ["centroids"], fractions=[50, 100], seeds=2, options={"centroids": {"scale": 0.5}}
    )
    found = {(run.fraction, run.seed): run for run in cached_runs(store, RUNS, ["toy"])}
    assert len(found) == len(runs) == 4
    for run in runs:
        for field in fields(Run):
            np.testing.assert_equal(getattr(found[run.fraction, run.seed], field.name), getattr(run, field.name))
    assert {tuple(run.params["options"].items()) for run in runs} == {(("scale", 0.5),)}
    assert cached_runs(store, RUNS, []) == []
    assert cached_runs(store, "trained", ["toy"]) == []


def test_a_run_without_its_identity_counts_as_absent(store, toy_features, fake_heads):
    cached_sweep(store, toy_features, ["centroids"], fractions=[50], seeds=1)
    (name,) = store.list_cached(RUNS)
    store.put_cached(RUNS, name, {"probabilities": np.ones((2, 2))}, {"params": {}, "seconds": 1.0})
    assert cached_run(store, RUNS, name) is None
    assert cached_runs(store, RUNS, ["toy"]) == []
    cached_sweep(store, toy_features, ["centroids"], fractions=[50], seeds=1)
    assert len(fake_heads["centroids"].seen_) == 2


def test_test_samples_that_the_store_does_not_know_are_refused(store, toy_features, make_grid):
    (run,) = make_grid(fractions=[100], seeds=1)
    with pytest.raises(MissingFeaturesError, match="no dataset 'toy'"):
        save_run(store, RUNS, "a" * 64, run)
    store.put_dataset(replace(toy_features.table, source="folder:/data/my sky"))
    told = r"does not know 90 test samples, the first is 's0' \[toy\].*skyprobe extract 'folder:/data/my sky'"
    with pytest.raises(ProbeError, match=told):
        save_run(store, RUNS, "a" * 64, run)
    save_run(store, RUNS, "a" * 64, replace(run, sample_ids=toy_features.table.sample_ids[:90]))
    assert cached_run(store, RUNS, "a" * 64).sample_ids == toy_features.table.sample_ids[:90]


def test_what_a_gpu_found_is_not_taken_for_what_a_cpu_would_find(toy_features, monkeypatch):
    tasks = plan(toy_features, ["centroid"], seeds=1)
    on_cpu = task_digests(toy_features, tasks)
    monkeypatch.setattr("probes.sweep.cache.backend_versions", lambda: {"cupy": "13.3.0", "cuml": "25.02"})
    on_gpu = task_digests(toy_features, tasks)
    monkeypatch.setattr("probes.sweep.cache.backend_versions", lambda: {"cupy": "13.3.0", "cuml": "25.04"})
    assert len({*on_cpu, *on_gpu, *task_digests(toy_features, tasks)}) == 3 * len(tasks)
