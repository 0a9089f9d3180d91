from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from featurestore.store import open_store
from finetune.run_cache import cached_run, cached_runs, save_run
from probes.results.run import Run, summarise


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store.zarr"), mode="a")


@pytest.fixture
def table(make_sky):
    return make_sky(4, 0, 3).table


@pytest.fixture
def run():
    return Run(
        dataset="sky",
        variant="resize=32",
        backbone="timm:test_vit",
        pooling="cls",
        key="0123456789ab",
        scheme="sources",
        head="finetune:lora",
        protocol="supervised",
        fraction=50,
        seed=1,
        n_train=4,
        n_valid=0,
        n_features=64,
        classes=("one", "two"),
        sample_ids=("s006", "s004"),
        truth=np.array([0, 1]),
        probabilities=np.float32([[0.25, 0.75], [0.5, 0.5]]),
        params={"rank": 4, "nested": {"patience": 3}},
        seconds=1.5,
    )


def test_a_run_comes_back_as_it_was(store, table, run):
    save_run(store, "a" * 64, run, table)
    found = cached_run(store, "a" * 64)
    for field in fields(Run):
        np.testing.assert_equal(getattr(found, field.name), getattr(run, field.name))
    assert found.probabilities.dtype == np.float32


def test_what_was_not_cached_is_not_there(store):
    assert cached_run(store, "a" * 64) is None
    assert cached_runs(store, []) == []


def test_rows_are_found_after_the_dataset_has_grown(store, table, run):
    store.put_dataset(table.take(np.array([6, 4, 0])))
    save_run(store, "a" * 64, run, table)
    assert cached_run(store, "a" * 64).sample_ids == run.sample_ids


def test_runs_of_a_dataset_and_a_scheme_are_found(store, table, run, make_sky):
    other = make_sky(4, 0, 3, name="other").table
    save_run(store, "a" * 64, run, table)
    save_run(store, "b" * 64, replace(run, seed=2), table)
    save_run(store, "c" * 64, replace(run, dataset="other"), other)
    assert [one.seed for one in cached_runs(store, ["sky"])] == [1, 2]
    assert [one.dataset for one in cached_runs(store, ["other"], "sources")] == ["other"]
    assert summarise(cached_runs(store, ["sky"]))["runs"].tolist() == [2]
    assert cached_runs(store, ["sky"], "of a mapping file") == []
