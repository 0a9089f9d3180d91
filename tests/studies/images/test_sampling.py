"""Draws are balanced, repeatable, and tell what they passed over."""

from dataclasses import replace

import numpy as np
import pytest

from featurestore.datasets.base import Sample
from featurestore.errors import EmptyDatasetError, UnknownNameError, UnreadableImageError
from featurestore.preprocessing import Preprocessing
from featurestore.samples import UNLABELLED, Boxes
from studies.images.sampling import (
    NO_BOXES,
    Draw,
    boxes_of,
    draw_balanced,
    draw_each_class,
    draw_named,
    identify_samples,
    to_picture,
)

CROP = Preprocessing(resize=16)


class Images:
    """Image of a row: all its pixels are the row."""

    def __init__(self, table, unreadable=()):
        self.table, self.unreadable = table, unreadable

    def read(self, row):
        if row in self.unreadable:
            raise UnreadableImageError("truncated", where=str(row), hint="Copy it again.")
        return Sample(np.full((20, 20), row, dtype=np.uint8), bytes(16))


@pytest.fixture
def table(make_table):
    labels = np.arange(40) % 3
    labels[:5] = UNLABELLED
    return make_table(labels)


def labels_of(table, drawn):
    draw = Draw(Images(table), table, CROP, drawn)
    return table.labels["kind"][draw.rows].tolist()


@pytest.mark.parametrize(("n", "expected"), [(6, [2, 2, 2]), (8, [3, 3, 2]), (2, [1, 1])])
def test_samples_are_spread_over_the_classes(table, n, expected):
    labels = labels_of(table, draw_balanced(table, "kind", n, seed=0))
    assert labels == sorted(labels)
    assert np.bincount(labels).tolist() == expected


def test_classes_without_samples_leave_their_share_to_others(make_table):
    table = make_table(np.array([0, 0, 2, 2]), classes=("a", "b", "c"))
    assert labels_of(table, draw_balanced(table, "kind", 4, seed=0)) == [0, 0, 2, 2]


def test_without_a_scheme_all_samples_are_drawn_from(table):
    (one,) = draw_balanced(table, "", 7, seed=0)
    assert sorted(one[0].tolist()) == list(range(40))
    assert one[1] == 7
    assert len(labels_of(table, draw_each_class(table, "", 1, seed=0))) == 6


def test_the_seed_decides(table):
    draws = [Draw(Images(table), table, CROP, draw_balanced(table, "kind", 6, seed)).rows for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_named_samples_come_in_their_order(table):
    draw = Draw(Images(table), table, CROP, draw_named(table, ["s030", "s002"]))
    assert draw.rows == [30, 2]
    assert [image[0, 0] for image in draw.images] == [30, 2]
    np.testing.assert_allclose([pixels.mean() for pixels in draw.pixels], [30 / 255, 2 / 255], rtol=1e-5)


def test_a_sample_that_does_not_exist(table):
    with pytest.raises(UnknownNameError, match=r"unknown sample 's0xx'.*Did you mean"):
        draw_named(table, ["s0xx"])


def test_the_next_one_takes_the_place_of_an_unreadable_image(table):
    drawn = draw_balanced(table, "kind", 3, seed=0)
    first = Draw(Images(table), table, CROP, drawn).rows[0]
    draw = Draw(Images(table, [first]), table, CROP, drawn)
    assert first not in draw.rows and len(draw.rows) == 3
    assert "truncated" in draw.unreadable[f"s{first:03d}"]


def test_nothing_to_draw_is_an_error(table):
    with pytest.raises(EmptyDatasetError, match="no image can be shown"):
        Draw(Images(table, range(40)), table, CROP, draw_named(table, ["s001"]))


def test_the_identity_follows_labels_and_boxes(table):
    boxes = Boxes(np.array([3]), np.float32([[1, 2, 3, 4]]), np.zeros(1, int), np.zeros(1, bool))
    boxed = replace(table, boxes=boxes)
    assert len({str(identify_samples(*one)) for one in ((table, "kind"), (table, ""), (boxed, "kind"))}) == 3
    assert boxes_of(boxed, 3).tolist() == [[1, 2, 3, 4]]
    assert boxes_of(table, 3) is NO_BOXES


@pytest.mark.parametrize(("n_bands", "bands"), [(1, [0, 0, 0]), (2, [0, 1, 0]), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_a_picture_has_three_colours_whatever_the_bands(n_bands, bands):
    pixels = np.random.default_rng(0).random((n_bands, 4, 4), dtype=np.float32)
    picture = to_picture(pixels)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.round(pixels[bands] * 255).transpose(1, 2, 0))


def test_an_image_that_left_its_source_is_passed_over(table):
    source = Images(table.take(np.arange(8, 40)))
    draw = Draw(source, table, CROP, [(np.array([5, 30]), 2)])
    assert draw.rows == [30]
    assert draw.unreadable == {table.sample_ids[5]: "the image is no longer at its source"}
