"""Extraction with a small fake backbone: the plan, resumption, changes, failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from hashlib import blake2b
from threading import Lock

import numpy as np
import pytest

from featurestore import extraction
from featurestore.backbones.base import Backbone
from featurestore.backbones.catalogue import find_spec
from featurestore.datasets.base import Sample
from featurestore.errors import StoreWriteError, UnreadableImageError, UsageError
from featurestore.extraction import Model, extract_features
from featurestore.planning import ExtractionOptions
from featurestore.samples import Boxes, SampleTable
from featurestore.store import open_store

N, BLOCK = 37, 10
BACKBONE = "resnet-18"
OPTIONS = ExtractionOptions(weights="random:0", engine="torch", dtype="float32", batch_size=4, lanes=2)


class MemoryDataset:
    """Images in memory, with a count of how often each was decoded."""

    decoder = "array"

    def __init__(self, images, *, ids=None, broken=(), boxes=None):
        self.images, self.broken, self.decoded = images, set(broken), Counter()
        self._lock = Lock()
        n = len(images)
        self.table = SampleTable(
            name="memory",
            sample_ids=tuple(ids or (f"s{row:03d}" for row in range(n))),
            labels={"class": np.arange(n) % 2},
            classes={"class": ("a", "b")},
            splits=np.array(["train"] * n),
            stamps=np.array([int.from_bytes(_digest(image)[:8], "little") for image in images], dtype=np.uint64),
            boxes=boxes,
        )

    def __len__(self):
        return len(self.images)

    def read(self, row):
        with self._lock:
            self.decoded[self.table.sample_ids[row]] += 1
        if row in self.broken:
            raise UnreadableImageError("the file is truncated", where=row, hint="Copy it again.")
        return Sample(self.images[row], _digest(self.images[row]))


class MeanForward:
    """Per-channel means and a constant: cheap, and telling which image came in."""

    widths = {"avgpool": 4}

    def __init__(self):
        self.calls = 0

    def __call__(self, pixels):
        assert pixels.shape[0] == OPTIONS.batch_size, "shapes are fixed"
        self.calls += 1
        means = pixels.mean(axis=(2, 3))
        return {"avgpool": np.concatenate([means, np.ones((len(pixels), 1), np.float32)], axis=1)}


def _digest(image):
    return blake2b(image.tobytes(), digest_size=16).digest()


def make_images(n=N, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, size=(n, 9, 11), dtype=np.uint8))


def expected(images, variant="full-224"):
    from featurestore.preprocessing import parse_variant

    no_boxes = np.empty((0, 4), np.float32)
    return np.stack([parse_variant(variant)[1].apply(image, no_boxes).mean(axis=(1, 2)) for image in images])


@pytest.fixture
def loads(monkeypatch):
    """Replaces model loading; records the names of the models loaded."""
    loaded = []

    def load(wanted, options):
        wanted = list(wanted)
        loaded.extend(one.spec.name for one in wanted)
        spec = find_spec(BACKBONE)
        backbone = Backbone(spec, tokens=None, weights_hash="0" * 64, weights_source=str(options.weights))
        return {one: Model(backbone, MeanForward()) for one in wanted}

    monkeypatch.setattr(extraction, "load_models", load)
    return loaded


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=BLOCK)


def extract(dataset, store, variants=("full-224",), options=OPTIONS, **kwargs):
    return extract_features(dataset, [BACKBONE], list(variants), store, options, **kwargs)


def test_every_image_gets_its_own_embedding(loads, store):
    images = make_images()
    report = extract(MemoryDataset(images), store)
    features = store.load("memory", "full-224", BACKBONE)
    np.testing.assert_allclose(features.values[:, :3], expected(images), atol=1e-6)
    assert features.table.sample_ids == tuple(f"s{row:03d}" for row in range(N))
    assert report.costs.images == report.costs.forwards == N
    assert report.features[0].embedded == N
    assert report.costs.forward > 0 and report.costs.write > 0


def test_each_image_is_decoded_once_for_all_variants(loads, store):
    dataset = MemoryDataset(make_images())
    report = extract(dataset, store, ["full-224", "center-224", "resize=32"])
    assert set(dataset.decoded.values()) == {1}
    assert report.costs.forwards == 3 * N
    cropped = store.load("memory", "center-224", BACKBONE).values[:, :3]
    np.testing.assert_allclose(cropped, expected(dataset.images, "center-224"), atol=1e-6)


def test_a_complete_store_loads_no_model_and_decodes_nothing(loads, store):
    extract(MemoryDataset(make_images()), store)
    dataset = MemoryDataset(make_images())
    loads.clear()
    report = extract(dataset, store)
    assert loads == []
    assert not dataset.decoded
    assert report.features[0].embedded == 0


def test_a_different_request_for_the_same_key_is_recognised_by_the_key(loads, store):
    extract(MemoryDataset(make_images()), store)
    dataset = MemoryDataset(make_images())
    extract(dataset, store, options=replace(OPTIONS, weights="random:00"))
    assert not dataset.decoded
    assert len(store.find("memory")) == 1


def test_other_storage_types_stand_beside_each_other(loads, store):
    dataset = MemoryDataset(make_images())
    extract(dataset, store)
    extract(dataset, store, options=replace(OPTIONS, dtype="float16"))
    keys = {arrays.key.dtype: arrays.key.short for arrays in store.find("memory")}
    assert keys.keys() == {"float16", "float32"}
    assert len(set(keys.values())) == 2


def test_unreadable_images_keep_their_row_and_their_reason(loads, store):
    dataset = MemoryDataset(make_images(), broken={0, 11, 36})
    report = extract(dataset, store)
    assert report.unreadable == dict.fromkeys(("s000", "s011", "s036"), "the file is truncated")
    features = store.load("memory", "full-224", BACKBONE)
    readable = [row for row in range(N) if row not in dataset.broken]
    np.testing.assert_allclose(features.values[:, :3], expected([dataset.images[r] for r in readable]), atol=1e-6)
    again = MemoryDataset(make_images(), broken={0, 11, 36})
    assert extract(again, store).unreadable == report.unreadable
    assert not again.decoded, "unreadable rows are not tried again unless asked for"
    healed = MemoryDataset(make_images())
    assert extract(healed, store, options=replace(OPTIONS, retry_unreadable=True)).unreadable == {}
    assert set(healed.decoded) == {"s000", "s011", "s036"}


def test_a_batch_of_unreadable_images_is_not_forwarded(loads, store):
    report = extract(MemoryDataset(make_images(4), broken={0, 1, 2, 3}), store)
    assert report.costs.forwards == 0
    assert len(report.unreadable) == 4


def test_an_image_without_contrast_is_unreadable_for_that_variant_only(loads, store):
    images = [np.full((5, 5), 0.5, np.float32), np.linspace(0, 1, 25, dtype=np.float32).reshape(5, 5)]
    flat = MemoryDataset(images)
    report = extract(flat, store)
    assert list(report.unreadable) == ["s000"]
    assert "nothing to stretch" in report.unreadable["s000"]


def test_a_changed_image_is_embedded_again_and_only_that_one(loads, store):
    images = make_images()
    extract(MemoryDataset(images), store)
    images[13] = make_images(seed=9)[13]
    changed = MemoryDataset(images)
    assert extract(changed, store).features[0].embedded == 1
    assert set(changed.decoded) == {"s013"}
    np.testing.assert_allclose(store.load("memory", "full-224", BACKBONE).values[:, :3], expected(images), atol=1e-6)


def test_new_images_are_appended_whatever_the_order(loads, store):
    images = make_images()
    extract(MemoryDataset(images[:30], ids=[f"s{row:03d}" for row in range(30)]), store)
    order = [36, 3, *range(30, 36), 0, *range(4, 30)]
    grown = MemoryDataset([images[row] for row in order], ids=[f"s{row:03d}" for row in order])
    assert extract(grown, store).features[0].embedded == 7
    features = store.load("memory", "full-224", BACKBONE)
    rows = [int(sample[1:]) for sample in features.table.sample_ids]
    assert sorted(rows) == sorted(order)
    np.testing.assert_allclose(features.values[:, :3], expected([images[row] for row in rows]), atol=1e-6)


@pytest.mark.parametrize("lanes", [1, 3])
def test_bytes_depend_neither_on_lanes_nor_on_interruption(loads, tmp_path, lanes):
    whole = open_store(str(tmp_path / "whole.zarr"), mode="a", block_rows=BLOCK)
    extract(MemoryDataset(make_images()), whole, options=replace(OPTIONS, lanes=1))
    broken_off = open_store(str(tmp_path / "again.zarr"), mode="a", block_rows=BLOCK)

    def stop(done, total):
        assert total == N
        if done > 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(MemoryDataset(make_images()), broken_off, options=replace(OPTIONS, lanes=lanes), progress=stop)
    resumed = MemoryDataset(make_images())
    extract(resumed, broken_off, options=replace(OPTIONS, lanes=lanes))
    assert 0 < len(resumed.decoded) < N, "finished blocks are kept"
    one, other = (s.load("memory", "full-224", BACKBONE).values for s in (whole, broken_off))
    assert one.tobytes() == other.tobytes()


def test_a_full_disk_stops_with_a_message_and_leaves_a_store_that_can_go_on(loads, store, monkeypatch):
    from featurestore.feature_arrays import FeatureArrays

    write, calls = FeatureArrays.write_block, []

    def fail_second(self, block, data):
        calls.append(block)
        if len(calls) == 2:
            raise StoreWriteError("the store cannot be written: No space left on device", where="x", hint="Free space.")
        write(self, block, data)

    monkeypatch.setattr(FeatureArrays, "write_block", fail_second)
    with pytest.raises(StoreWriteError, match="No space left"):
        extract(MemoryDataset(make_images()), store)
    monkeypatch.setattr(FeatureArrays, "write_block", write)
    report = extract(MemoryDataset(make_images()), store)
    assert report.features[0].embedded == N - BLOCK
    assert store.find("memory")[0].counts().missing == 0


def test_progress_ends_at_the_total(loads, store):
    seen = []
    extract(MemoryDataset(make_images()), store, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (N, N)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_box_crop_follows_the_boxes_when_they_change(loads, store):
    images = make_images(3)

    def boxed(x1):
        xyxy = np.array([[0, 0, x1, 6]] * 3, np.float32)
        zeros = np.zeros(3, np.int64)
        return MemoryDataset(images, boxes=Boxes(np.arange(3), xyxy, zeros, zeros.astype(bool)))

    assert extract(boxed(4), store, ["box-224"]).features[0].embedded == 3
    assert extract(boxed(4), store, ["box-224"]).features[0].embedded == 0
    assert extract(boxed(8), store, ["box-224"]).features[0].embedded == 3
    assert extract(boxed(9), store, ["full-224"]).features[0].embedded == 3
    assert extract(boxed(5), store, ["full-224"]).features[0].embedded == 0


def test_a_box_crop_without_boxes_is_refused_before_any_work(loads, store):
    dataset = MemoryDataset(make_images())
    with pytest.raises(UsageError, match="needs annotated boxes, and the dataset has none"):
        extract(dataset, store, ["box-224"])
    assert not dataset.decoded


def test_features_that_float16_cannot_hold_are_refused(loads, store, monkeypatch):
    from featurestore.errors import StorageOverflowError

    def overflow(self, pixels):
        return {"avgpool": np.full((len(pixels), 4), 1e6, np.float32)}

    monkeypatch.setattr(MeanForward, "__call__", overflow)
    with pytest.raises(StorageOverflowError, match="float32"):
        extract(MemoryDataset(make_images()), store, options=replace(OPTIONS, dtype="float16"))


@pytest.mark.parametrize(("option", "message"), [({"lanes": 0}, "lanes must be positive"), ({"dtype": "int8"}, "int8")])
def test_bad_options_are_refused(option, message):
    with pytest.raises(UsageError, match=message):
        ExtractionOptions(**option)
