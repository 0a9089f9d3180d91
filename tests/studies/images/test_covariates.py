"""Brightness, noise and size of images, against closed forms and astropy; and what is cached of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from featurestore.datasets.base import Sample
from featurestore.errors import UnreadableImageError
from featurestore.samples import Boxes
from studies.images.covariates import KIND, cached_covariates, measure_image, measure_images


def source(flux, sigma, noise=1.0, background=10.0):
    rows, columns = np.mgrid[:101, :101] - 50.0
    light = flux / (2 * np.pi * sigma**2) * np.exp(-(rows**2 + columns**2) / (2 * sigma**2))
    return light + background + noise * np.random.default_rng(0).normal(size=light.shape)


def test_a_gaussian_source_is_measured():
    found = measure_image(source(flux=1e5, sigma=4))
    assert found["flux"] == pytest.approx(1e5, rel=0.02)
    assert found["background"] == pytest.approx(10, abs=0.1)
    assert found["noise"] == pytest.approx(1, rel=0.05)
    assert found["peak"] == pytest.approx(1e5 / (2 * np.pi * 16), rel=0.02)
    assert found["size"] == pytest.approx(np.sqrt(2) * 4, rel=0.05)
    assert (found["height"], found["width"]) == (101, 101)


def test_images_without_a_finite_pixel_or_an_object():
    assert np.isnan(measure_image(np.full((4, 4), np.nan))["flux"])
    assert np.isnan(measure_image(np.ones((4, 4)))["size"])


def test_bands_are_averaged_and_holes_are_left_out():
    plane = source(flux=1e5, sigma=4)
    bands = np.stack([plane - 3, plane, plane + 3], axis=2)
    assert measure_image(bands) == pytest.approx(measure_image(plane))
    holed = plane.copy()
    holed[0, :50] = np.nan
    assert measure_image(holed)["flux"] == pytest.approx(1e5, rel=0.02)
    assert measure_image(holed)["noise"] == pytest.approx(1, rel=0.05)


class Images:
    """Images whose every pixel is the number of their row; row 2 cannot be read."""

    def __init__(self, table):
        self.table, self.n_read = table, 0

    def read(self, row):
        self.n_read += 1
        if row == 2:
            raise UnreadableImageError("cut off", where="2.png", hint="Fetch it again.")
        return Sample(np.full((4, 6), float(row)), bytes(16))


@pytest.fixture
def images(make_table):
    rows, crowd = np.array([0, 0, 1]), np.array([False, False, True])
    boxes = Boxes(rows, np.float32([[0, 0, 2, 2], [0, 0, 4, 1], [0, 0, 3, 3]]), np.zeros(3, np.int64), crowd)
    return Images(make_table([0, 1, 0, 1], boxes=boxes, box_classes=("source",)))


def test_images_that_cannot_be_read_are_unknown_and_crowds_have_no_size(images):
    seen = []
    found = measure_images(images, ["s003", "s002", "s000", "s001"], lambda done, total: seen.append((done, total)))
    assert found["sample_id"].tolist() == ["s003", "s002", "s000", "s001"]
    assert found["background"].tolist() == pytest.approx([3, np.nan, 0, 1], nan_ok=True)
    assert found["width"].tolist() == pytest.approx([6, np.nan, 6, 6], nan_ok=True)
    assert found["box"].tolist() == pytest.approx([np.nan, np.nan, 2, np.nan], nan_ok=True)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_was_measured_is_cached_under_its_first_name(images, dict_store):
    rows = np.arange(4)
    assert cached_covariates(dict_store, images.table, rows, None) is None
    first = cached_covariates(dict_store, images.table, rows, images)
    again = cached_covariates(dict_store, images.table, rows, None)
    assert images.n_read == 4
    pd.testing.assert_frame_equal(again, first)
    assert dict_store.list_cached(KIND) and KIND == "nuisance"


def test_quantities_are_of_the_images_that_they_name_where_the_features_lack_some(images, dict_store):
    """Row 0 has no features: row 0 of their table is row 1 of the dataset."""
    table = images.table.take(np.array([1, 3]))
    dict_store.put_dataset(images.table)
    first = cached_covariates(dict_store, table, np.array([1, 0]), images)
    assert first["sample_id"].tolist() == ["s003", "s001"]
    assert first["background"].tolist() == [3, 1]
    pd.testing.assert_frame_equal(cached_covariates(dict_store, table, np.array([1, 0]), None), first)


def test_what_an_earlier_version_took_for_other_images_is_measured_again(images, dict_store):
    table = images.table.take(np.array([1, 3]))
    cached_covariates(dict_store, table, np.arange(2), images)  # the store knows no other rows: named as before
    dict_store.put_dataset(images.table)
    assert cached_covariates(dict_store, table, np.arange(2), None) is None


def test_an_image_that_the_dataset_no_longer_has_is_unknown(images):
    found = measure_images(images, ["gone", "s001"])
    assert found["width"].tolist() == pytest.approx([np.nan, 6], nan_ok=True)
