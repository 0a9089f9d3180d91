from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from featurestore.store import open_store
from finetune.detection.results import DetectionRun
from finetune.detection.run_cache import cached_run, cached_runs, save_run
from finetune.detection.targets import AnnotatedImage, Detections


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store.zarr"), mode="a")


@pytest.fixture
def table(make_sky):
    return make_sky(4, 0, 3).table


def truth(row, n):
    rng = np.random.default_rng(row)
    return AnnotatedImage(
        row, f"s{row:03d}", (32, 48), rng.random((n, 4), dtype=np.float32), np.arange(n) % 2,
        np.arange(n) == 1, rng.random(n),
    )  # fmt: skip


@pytest.fixture
def run():
    rng = np.random.default_rng(0)
    found = [
        Detections(rng.random((n, 4), dtype=np.float32), np.arange(n) % 2, rng.random(n, dtype=np.float32))
        for n in (0, 3, 1)
    ]
    return DetectionRun(
        "sky", "resize=32", "timm:test_vit", "frozen", "all", 50, 1, 4, ("one", "two"),
        (truth(4, 2), truth(5, 0), truth(6, 3)), tuple(found), 0.4, "abc", {"epochs": 3}, 1.5,
    )  # fmt: skip


def test_a_run_comes_back_as_it_was(store, table, run):
    save_run(store, "a" * 64, run, table)
    found = cached_run(store, "a" * 64)
    for field in fields(DetectionRun):
        if field.name not in ("images", "detections"):
            assert getattr(found, field.name) == getattr(run, field.name)
    for name in ("images", "detections"):
        for ours, theirs in zip(getattr(found, name), getattr(run, name), strict=True):
            np.testing.assert_equal(vars(ours), vars(theirs))
            assert ours.boxes.dtype == np.float32
    assert found.scores.map50 == run.scores.map50


def test_what_was_not_cached_is_not_there(store):
    assert cached_run(store, "a" * 64) is None
    assert cached_runs(store, ["sky"]) == []


def test_runs_of_a_dataset_are_found_in_order(store, table, run):
    save_run(store, "a" * 64, replace(run, seed=2), table)
    save_run(store, "b" * 64, replace(run, seed=0), table)
    save_run(store, "c" * 64, replace(run, dataset="other"), replace(table, name="other"))
    assert [one.seed for one in cached_runs(store, ["sky"])] == [0, 2]
    assert [one.dataset for one in cached_runs(store, ["other"])] == ["other"]


def test_a_run_of_an_older_version_is_read(store, table, run):
    save_run(store, "a" * 64, run, table)
    entry = store.get_cached("detected", "a" * 64)
    older = {name: value for name, value in entry.attributes.items() if name not in ("split", "method")}
    store.put_cached("detected", "b" * 64, entry.arrays, older)
    found = cached_run(store, "b" * 64)
    assert (found.split, found.method, found.settings) == ("", "", run.settings)
