"""A gallery shows what a backbone sees of images drawn at random, and is redrawn from the store without them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import featurestore.datasets
from featurestore.datasets.base import Sample
from featurestore.errors import EmptyDatasetError, UnreadableImageError
from featurestore.preprocessing import Preprocessing
from featurestore.samples import UNLABELLED, Boxes
from featurestore.store import open_store
from studies.images.gallery import cached_gallery, make_gallery
from studies.images.histogram import count_values

NO_BOXES = np.empty((0, 4), dtype=np.float32)


def paint(row):
    """Image of a row: no two alike."""
    return np.random.default_rng(row).integers(0, 255, (20, 30), dtype=np.uint8)


class Images:
    decoder = "array"

    def __init__(self, table, unreadable=()):
        self.table, self.unreadable, self.n_read = table, unreadable, 0

    def __len__(self):
        return len(self.table)

    def read(self, row):
        self.n_read += 1
        if row in self.unreadable:
            raise UnreadableImageError("truncated", where=str(row), hint="Copy it again.")
        return Sample(paint(row), bytes(16))


@pytest.fixture
def table(make_table):
    labels = np.arange(40) % 3
    labels[:5] = UNLABELLED
    boxes = Boxes(np.arange(40), np.tile(np.float32([3, 5, 15, 10]), (40, 1)), np.zeros(40, int), np.zeros(40, bool))
    return replace(make_table(labels), boxes=boxes, source="folder:images")


def rows_of(gallery):
    return [int(name[1:]) for name in gallery.sample_ids]


def test_as_many_images_of_each_class_as_wanted(table):
    gallery = make_gallery(Images(table), table, "resize=16", scheme="kind", per_class=3)
    assert gallery.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert table.labels["kind"][rows_of(gallery)].tolist() == gallery.labels.tolist()
    assert len(set(gallery.sample_ids)) == 9
    assert gallery.n_images == 40


def test_pictures_are_what_the_variant_shows(table):
    gallery = make_gallery(Images(table), table, "resize=16,stretch=percentile:5:95", scheme="kind")
    preprocessing = Preprocessing(resize=16, stretch="percentile:5:95")
    for row, picture in zip(rows_of(gallery), gallery.pictures, strict=True):
        expected = preprocessing.apply(paint(row), NO_BOXES).transpose(1, 2, 0)
        np.testing.assert_allclose(picture / 255, expected, atol=0.5 / 255 + 1e-6)
    unstretched = Preprocessing(resize=16).apply(paint(rows_of(gallery)[0]), NO_BOXES).transpose(1, 2, 0)
    np.testing.assert_allclose(gallery.raw / 255, unstretched, atol=0.5 / 255 + 1e-6)


def test_the_histogram_is_that_of_the_raw_values(table):
    gallery = make_gallery(Images(table), table, "resize=16", scheme="kind")
    expected = count_values([paint(row) for row in rows_of(gallery)])
    np.testing.assert_array_equal(gallery.histogram.counts, expected.counts)
    np.testing.assert_array_equal(gallery.histogram.edges, expected.edges)


def test_another_seed_draws_other_images(table):
    draws = [make_gallery(Images(table), table, "resize=16", scheme="kind", seed=seed) for seed in (0, 0, 1)]
    assert draws[0].sample_ids == draws[1].sample_ids != draws[2].sample_ids


def test_without_labels_images_are_drawn_from_all(table):
    gallery = make_gallery(Images(table), table, "resize=16")
    assert len(gallery.sample_ids) == 12
    assert set(gallery.labels.tolist()) == {UNLABELLED}


def test_images_that_cannot_be_read_are_passed_over_and_named(table):
    wanted = rows_of(make_gallery(Images(table), table, "resize=16", scheme="kind"))
    gallery = make_gallery(Images(table, unreadable=wanted[:1]), table, "resize=16", scheme="kind")
    assert list(gallery.unreadable) == [f"s{wanted[0]:03d}"]
    assert "truncated" in gallery.unreadable[f"s{wanted[0]:03d}"]
    assert np.bincount(gallery.labels).tolist() == [2, 2, 2]
    assert wanted[0] not in rows_of(gallery)


def test_nothing_to_show_is_an_error(table):
    with pytest.raises(EmptyDatasetError, match="no image can be shown"):
        make_gallery(Images(table, unreadable=range(40)), table, "resize=16", scheme="kind")


def test_boxes_are_shares_of_the_whole_image(table):
    gallery = make_gallery(Images(table), table, "resize=16", scheme="kind")
    np.testing.assert_allclose(gallery.boxes, np.tile([0.1, 0.25, 0.5, 0.5], (6, 1)), rtol=1e-6)
    assert gallery.box_rows.tolist() == list(range(6))
    assert len(make_gallery(Images(table), table, "resize=16,crop=box:0.2", scheme="kind").boxes) == 0


def test_samples_are_found_by_their_ids(table):
    """The store may hold samples in another order than the dataset."""
    other = table.take(np.arange(40)[::-1])
    gallery = make_gallery(Images(table), other, "resize=16", scheme="kind")
    assert table.labels["kind"][rows_of(gallery)].tolist() == gallery.labels.tolist()
    first = Preprocessing(resize=16).apply(paint(rows_of(gallery)[0]), NO_BOXES)
    np.testing.assert_allclose(gallery.pictures[0] / 255, first.transpose(1, 2, 0), atol=0.5 / 255 + 1e-6)


@pytest.fixture
def stored(tmp_path, table, monkeypatch):
    """A store that knows the dataset, and the images at its source."""
    store, images = open_store(str(tmp_path / "store"), mode="a"), Images(table)
    store.put_dataset(table)
    monkeypatch.setattr(featurestore.datasets, "open_dataset", {"folder:images": images}.__getitem__)
    return SimpleNamespace(store=store, images=images)


def test_a_stored_gallery_needs_no_images(stored, monkeypatch):
    made = cached_gallery(stored.store, "toy", "resize=16")
    monkeypatch.delattr(featurestore.datasets, "open_dataset")
    again = cached_gallery(stored.store, "toy", "resize=16")
    for name, value in vars(made).items():
        if name == "histogram":
            for one, two in zip(value, again.histogram, strict=True):
                np.testing.assert_array_equal(one, two)
        else:
            np.testing.assert_array_equal(value, getattr(again, name))


@pytest.mark.parametrize("change", [{"variant": "resize=17"}, {"seed": 1}, {"per_class": 1}])
def test_another_gallery_is_made_anew(stored, change):
    cached_gallery(stored.store, "toy", variant="resize=16")
    seen = stored.images.n_read
    cached_gallery(stored.store, "toy", **{"variant": "resize=16"} | change)
    assert stored.images.n_read > seen


def test_a_changed_dataset_has_another_gallery(stored, table):
    before = cached_gallery(stored.store, "toy", "resize=16")
    labels = np.where(table.labels["kind"] == 2, 1, table.labels["kind"])
    stored.store.put_dataset(replace(table, labels={"kind": labels}))
    after = cached_gallery(stored.store, "toy", "resize=16")
    assert set(before.labels.tolist()) == {0, 1, 2}
    assert set(after.labels.tolist()) == {0, 1}
