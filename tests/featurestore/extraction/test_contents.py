"""Files that were touched are not embedded again, files that were changed behind an old time are."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from featurestore.datasets import open_dataset
from featurestore.extraction.estimate import estimate
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.samples import Boxes
from featurestore.store import open_store
from featurestore.store.verify import verify

N = 21
OPTIONS = ExtractionOptions(weights="random:0", engine="torch", dtype="float32", batch_size=4, workers=2)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=8)


def extract(dataset, store, variants=("full-224",), **changes):
    return extract_features(dataset, ["resnet-18"], list(variants), store, replace(OPTIONS, **changes))


def touch(dataset, rows):
    """The same images in files that were written again."""
    fingerprints = dataset.table.fingerprints.copy()
    fingerprints[rows] += np.uint64(1)
    dataset.table = replace(dataset.table, fingerprints=fingerprints)
    return dataset


def test_touched_files_are_read_once_and_not_embedded(models, store, make_dataset, make_images):
    extract(make_dataset(make_images(N)), store)
    before = store.load("memory", "full-224", "resnet-18").values
    models.loaded.clear()
    touched = touch(make_dataset(make_images(N)), [0, 7, 8, 20])
    assert estimate(touched, ["resnet-18"], ["full-224"], store, OPTIONS).images == 0
    touched.decoded.clear()
    assert extract(touched, store).features[0].embedded == 0
    assert dict(touched.decoded) == {"s000": 1, "s007": 1, "s008": 1, "s020": 1}
    again = touch(make_dataset(make_images(N)), [0, 7, 8, 20])
    assert extract(again, store).features[0].embedded == 0
    assert not again.decoded, "the new fingerprints were noted"
    assert models.loaded == []
    assert store.load("memory", "full-224", "resnet-18").values.tobytes() == before.tobytes()
    assert verify(store) == []


def test_of_touched_files_those_with_another_content_are_embedded(models, store, make_dataset, make_images):
    images = make_images(N)
    extract(make_dataset(images), store, ["full-224", "center-224"])
    images[5] = make_images(N, seed=1)[5]
    changed = touch(make_dataset(images), [4, 5, 6])
    report = extract(changed, store, ["full-224", "center-224"])
    assert [one.embedded for one in report.features] == [1, 1]
    assert changed.decoded == {"s004": 1, "s005": 2, "s006": 1}, "compared once, for both variants"


def test_checksums_find_what_fingerprints_cannot(models, store, make_dataset, make_images):
    images = make_images(N)
    first = make_dataset(images)
    extract(first, store)
    images[3] = make_images(N, seed=1)[3]
    hidden = make_dataset(images)
    hidden.table = first.table
    assert extract(hidden, store).features[0].embedded == 0
    assert extract(hidden, store, checksum=True).features[0].embedded == 1
    assert extract(hidden, store, checksum=True).features[0].embedded == 0
    fresh = open_store(store.path.replace("store.zarr", "fresh.zarr"), mode="a")
    extract(hidden, fresh)
    values = [opened.load("memory", "full-224", "resnet-18").values for opened in (store, fresh)]
    np.testing.assert_array_equal(*values)


def test_an_image_that_cannot_be_read_any_more_has_changed(models, store, make_dataset, make_images):
    extract(make_dataset(make_images(N)), store)
    report = extract(touch(make_dataset(make_images(N), broken={2}), [2]), store)
    assert (report.features[0].embedded, list(report.unreadable)) == (1, ["s002"])


def test_boxes_are_part_of_the_content_where_the_crop_follows_them(models, store, make_dataset, make_images):
    def boxed(x1):
        xyxy = np.array([[0, 0, x1, 6]] * N, np.float32)
        zeros = np.zeros(N, np.int64)
        return make_dataset(make_images(N), boxes=Boxes(np.arange(N), xyxy, zeros, zeros.astype(bool)))

    assert extract(boxed(4), store, ["box-224"]).features[0].embedded == N
    assert extract(touch(boxed(4), [0, 1]), store, ["box-224"]).features[0].embedded == 0
    assert extract(touch(boxed(5), [0, 1]), store, ["box-224"]).features[0].embedded == N


@pytest.mark.parametrize("how", ["in place", "replaced"])
def test_a_file_whose_size_and_time_were_kept_is_noticed(models, tmp_path, how):
    folder = tmp_path / "images" / "a"
    folder.mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(folder / f"{number}.bmp")
    opened = open_store(str(tmp_path / "s"), mode="a")
    assert extract(open_dataset(str(tmp_path / "images")), opened).features[0].embedded == 3
    path = folder / "1.bmp"
    status = path.stat()
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "new.bmp")
    if how == "in place":
        path.write_bytes((tmp_path / "new.bmp").read_bytes())
    else:
        shutil.move(tmp_path / "new.bmp", path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert extract(open_dataset(str(tmp_path / "images")), opened).features[0].embedded == 1
