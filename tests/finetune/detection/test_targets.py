from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featurestore.datasets.base import Sample
from featurestore.errors import LabelMismatchError, UnknownNameError, UnreadableImageError, UsageError
from featurestore.preprocessing import Preprocessing, orient
from featurestore.samples import Boxes, SampleTable
from finetune.detection.targets import (
    EMPTY,
    STRATA,
    DetectionImages,
    box_fluxes,
    from_square,
    orient_boxes,
    read_annotations,
    stratified_table,
    to_square,
)
from probes.sweep.splits import divide_rows

SQUARE = Preprocessing(resize=32)


class Pictures:
    """Images in memory with boxes (row, x0, y0, x1, y1, label, crowd)."""

    decoder = "array"

    def __init__(self, images, boxes, splits=None, broken=()):
        columns = np.array(boxes, dtype=np.float64).reshape(-1, 7)
        self.images, self.broken = images, broken
        self.table = SampleTable(
            "pictures",
            tuple(f"{row}.png" for row in range(len(images))),
            {},
            {},
            np.array(splits or [""] * len(images)),
            np.arange(len(images), dtype=np.uint64),
            boxes=Boxes(
                columns[:, 0].astype(np.int64), columns[:, 1:5].astype(np.float32), columns[:, 5].astype(np.int64),
                columns[:, 6].astype(bool),
            ),
            box_classes=("a", "b"),
        )  # fmt: skip

    def __len__(self):
        return len(self.images)

    def read(self, row):
        if row in self.broken:
            raise UnreadableImageError("it is torn", where=row, hint="Mend it.")
        return Sample(self.images[row], b"\0" * 16)


def grey(height=20, width=40, dtype=np.uint8):
    return np.arange(height * width).reshape(height, width).astype(dtype)


def annotations(boxes, n_images=1, **options):
    return read_annotations(Pictures([grey()] * n_images, boxes, **options), np.arange(n_images), SQUARE)


def test_an_annotated_image_holds_its_boxes():
    found = annotations([(1, 2, 3, 9, 8, 1, 0), (0, 1, 1, 5, 5, 0, 0), (1, 0, 0, 6, 6, 0, 1)], n_images=3)
    assert found.classes == ("a", "b")
    second = found.images[1]
    assert (second.row, second.sample_id, second.size) == (1, "1.png", (20, 40))
    assert second.boxes.tolist() == [[2, 3, 9, 8], [0, 0, 6, 6]]
    assert second.labels.tolist() == [1, 0]
    assert second.crowd.tolist() == [False, True]
    assert len(found.images[2].boxes) == 0
    assert found.describe() == ""


def test_boxes_are_clipped_and_degenerate_ones_counted():
    """One sound box that sticks out, one outside, one sliver, one that is not finite."""
    found = annotations([
        (0, -5, -5, 10, 10, 0, 0), (0, 50, 5, 60, 9, 0, 0), (0, 39.5, 2, 70, 9, 0, 0), (0, np.nan, 0, 5, 5, 0, 0),
    ])  # fmt: skip
    assert found.images[0].boxes.tolist() == [[0, 0, 10, 10]]
    assert (found.n_clipped, found.n_degenerate) == (1, 3)
    assert found.describe() == (
        "1 boxes left their image and were clipped; 3 degenerate boxes (under 1 px inside the image) were dropped"
    )


def test_unreadable_images_are_named():
    found = annotations([(1, 2, 3, 9, 8, 1, 0)], n_images=2, broken=[0])
    assert found.unreadable == {"0.png": "it is torn"}
    assert [truth.row for truth in found.images] == [1]


def test_one_class_for_every_object():
    found = read_annotations(Pictures([grey()], [(0, 1, 1, 5, 5, 1, 0)]), np.arange(1), SQUARE, "source")
    assert found.classes == ("source",)
    assert found.images[0].labels.tolist() == [0]


def test_what_a_survey_refuses():
    pictures = Pictures([grey()], [(0, 1, 1, 5, 5, 1, 0)])
    with pytest.raises(UsageError, match=r"a detector looks at whole images \[crop=center:0.5\]. Use crop=none"):
        read_annotations(pictures, np.arange(1), Preprocessing(crop="center:0.5"))
    with pytest.raises(UnknownNameError, match="view of the classes"):
        read_annotations(pictures, np.arange(1), SQUARE, "sources")
    with pytest.raises(LabelMismatchError, match=r"the dataset has no boxes \[pictures\]. Give images with COCO"):
        read_annotations(Pictures([grey()], []), np.arange(1), SQUARE)


def test_targets_lie_where_the_pixels_are():
    """A painted box of a wide image is found again in its square."""
    image = np.zeros((20, 40), np.uint8)
    image[5:15, 8:24] = 200
    pictures = Pictures([image], [(0, 8, 5, 24, 15, 1, 0), (0, 0, 0, 4, 4, 0, 1)])
    annotated = read_annotations(pictures, np.arange(1), SQUARE).images
    pixels, target = DetectionImages(pictures, annotated, Preprocessing(resize=160, interpolation="nearest"))[0]
    y, x = np.nonzero(pixels[0].numpy())
    assert target["boxes"].tolist() == [[x.min(), y.min(), x.max() + 1, y.max() + 1]] == [[32, 40, 96, 120]]
    assert target["labels"].tolist() == [2]
    assert target["ignored"].tolist() == [[0, 0, 16, 32]]
    assert pixels.shape == (3, 160, 160)


def test_an_image_without_objects():
    pictures = Pictures([grey(), grey()], [(0, 1, 2, 5, 8, 1, 0)])
    images = DetectionImages(pictures, read_annotations(pictures, np.arange(2), SQUARE).images, SQUARE)
    assert len(images) == 2
    _, target = images[1]
    assert target["boxes"].shape == target["ignored"].shape == (0, 4)
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].dtype == torch.int64


@given(
    st.lists(st.tuples(*[st.floats(0, 500, width=32)] * 4), max_size=5),
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.integers(16, 512),
)
def test_to_the_square_and_back(boxes, size, side):
    given_boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    back = from_square(to_square(given_boxes, size, side), size, side)
    np.testing.assert_allclose(back, given_boxes, rtol=1e-6, atol=1e-4)
    edges = np.array([[0, 0, size[1], size[0]]], dtype=np.float32)
    np.testing.assert_allclose(to_square(edges, size, side), [[0, 0, side, side]], rtol=1e-6)


def test_strata_are_the_largest_objects():
    """A crowd region is not an object; an image without one has a stratum of its own."""
    boxes = [(0, 0, 0, 4, 4, 0, 0), (0, 0, 0, 9, 9, 1, 0), (0, 0, 0, 19, 19, 0, 1), (2, 0, 0, 9, 9, 0, 1)]
    table = stratified_table(Pictures([grey()] * 3, boxes).table)
    assert table.classes[STRATA] == ("a", "b", EMPTY)
    assert table.labels[STRATA].tolist() == [1, 2, 2]


def test_every_row_is_divided():
    """Also of a single class, which no classifier could be fitted on."""
    pictures = Pictures([grey()] * 10, [(row, 0, 0, 9, 9, 0, 0) for row in range(10)])
    split = divide_rows(stratified_table(pictures.table), seed=0)
    assert (len(split.train), len(split.valid), len(split.test)) == (8, 0, 2)
    assert sorted([*split.train, *split.test]) == list(range(10))
    own = Pictures([grey()] * 4, [(0, 0, 0, 9, 9, 0, 0)], splits=["train", "test", "valid", ""])
    split = divide_rows(stratified_table(own.table), seed=0)
    assert [rows.tolist() for rows in (split.train, split.valid, split.test)] == [[0], [2], [1]]


def test_flux_is_the_sum_over_touched_pixels():
    image = grey(4, 4, np.float32)
    image[0, 0] = np.nan
    boxes = np.array([[0, 0, 2, 2], [1.5, 1.2, 2.5, 3]], np.float32)
    assert box_fluxes(image, boxes).tolist() == [1 + 4 + 5, 5 + 6 + 9 + 10]
    assert box_fluxes(image[..., None], boxes).tolist() == [10, 30]
    assert np.isnan(box_fluxes(grey(4, 4), boxes)).all()
    assert np.isnan(box_fluxes(np.stack([image] * 3, axis=-1), boxes)).all()


@given(orientation=st.integers(0, 7), seed=st.integers(0, 1000))
def test_boxes_turn_with_the_pixels_and_back(orientation, seed):
    side, rng = 12, np.random.default_rng(seed)
    low = rng.integers(0, 6, (3, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 6, (3, 2))], axis=1).astype(np.float32)
    moved = orient_boxes(boxes, orientation, side)
    for (x0, y0, x1, y1), (u0, v0, u1, v1) in zip(boxes.astype(int), moved.astype(int), strict=True):
        mask = np.zeros((side, side), bool)
        mask[y0:y1, x0:x1] = True
        expected = np.zeros((side, side), bool)
        expected[v0:v1, u0:u1] = True
        np.testing.assert_array_equal(orient(mask, orientation), expected)
    back = (4 - orientation) % 4 if orientation < 4 else orientation  # a mirrored turn is its own inverse
    np.testing.assert_allclose(orient_boxes(moved, back, side), boxes)
