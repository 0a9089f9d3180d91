"""Sizes of objects in patches, and the input size or crop that they suggest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featurestore.datasets.base import Sample
from featurestore.errors import UnreadableImageError
from featurestore.samples import Boxes
from probes.statistics.feature_info import FeatureInfo
from studies.advice.evidence import Evidence
from studies.advice.objects import ObjectSizes, advise_on_size, measure_objects


class Boxed:
    """Images of 100 x 50 pixels; some cannot be read."""

    def __init__(self, table, broken=()):
        self.table, self.broken = table, broken
        self.read_rows = []

    def read(self, row):
        self.read_rows.append(row)
        if row in self.broken:
            raise UnreadableImageError("cut off", where=row, hint="Copy it again.")
        return Sample(np.zeros((50, 100), np.uint8), bytes(16))


@pytest.fixture
def table(make_table):
    """Ten samples; the rows 2 to 9 have a box of 20 x 10 pixels, the row 9 one of 50 x 25 as well, and a crowd."""
    rows = np.array([*range(2, 10), 9, 3])
    xyxy = np.tile(np.float32([10, 10, 30, 20]), (10, 1))
    xyxy[8] = 0, 0, 50, 25
    xyxy[9] = 0, 0, 100, 50
    crowd = np.zeros(10, bool)
    crowd[9] = True
    return replace(make_table(np.arange(10) % 2), boxes=Boxes(rows, xyxy, np.zeros(10, np.int64), crowd))


def test_boxes_are_measured_against_their_images(table):
    sizes = measure_objects(Boxed(table))
    np.testing.assert_allclose(sizes.share, [0.2] * 8 + [0.5])
    assert (sizes.n_images, sizes.dataset) == (8, "toy")


def test_a_few_images_stand_for_many(table):
    dataset = Boxed(table)
    assert measure_objects(dataset, n_images=3).n_images == 3
    assert dataset.read_rows == [2, 5, 9]


def test_images_that_cannot_be_read_are_passed_over(table):
    assert measure_objects(Boxed(table, broken=(4, 9))).n_images == 6
    assert measure_objects(Boxed(table, broken=range(10))) is None


def test_without_boxes_nothing_is_measured(make_table):
    assert measure_objects(Boxed(make_table([0, 1]))) is None


def advise(share, patch=16, **prepared):
    source = FeatureInfo("k", "mae-b", "mine", {"crop": "none", "resize": 224} | prepared, patch, 86.0)
    evidence = Evidence("data/", "kind", (), (source, replace(source, key="other"), replace(source, patch=None)))
    (found,) = advise_on_size(evidence, ObjectSizes(np.asarray(share), 5, "toy"))
    return found


def test_objects_of_a_patch_or_more_need_no_larger_input():
    found = advise([16 / 224] * 3 + [48 / 224])
    assert found.sentence == (
        "At mine the mean object spans 1.5 patches of 16 px, the 25th percentile 1.0: at least 1, so that no larger "
        "input is called for."
    )
    assert found.rows == ("toy: 4 boxes of 5 images; mine, patch 16",)
    assert found.command == ""


def test_smaller_objects_suggest_the_smallest_input_that_makes_them_a_patch():
    found = advise([10 / 224] * 4)
    assert "the 25th percentile 0.6, which should be 1 or more: try an input of 368 px" in found.sentence
    assert 10 / 224 * 352 < 16 <= 10 / 224 * 368
    assert found.command == "skyprobe extract data/ -b mae-b -p resize=368 -p crop=box:0.2"


def test_no_input_is_suggested_that_is_too_large():
    found = advise([2 / 224] * 4)
    assert "no input up to 1024 px makes it so; crop=box:0.2 brings the largest box closer" in found.sentence
    assert found.command == "skyprobe extract data/ -b mae-b -p crop=box:0.2"


def test_a_crop_enlarges_the_objects():
    assert "the 25th percentile 1.2" in advise([10 / 224] * 4, crop="center:0.5").sentence
    close = advise([10 / 224] * 4, crop="box:0.2").sentence
    assert close == "mine crops to the largest box: its longer side spans up to 10.0 patches of 16 px."


def test_what_cannot_be_measured_is_said():
    (found,) = advise_on_size(Evidence("data/", "kind", (), ()), None)
    assert "was not measured" in found.sentence
