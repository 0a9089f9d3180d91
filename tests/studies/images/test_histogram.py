"""Histograms count every finite pixel once; the scale of the noise is that of astropy and of normal noise."""

import numpy as np
import pytest
from astropy.stats import mad_std
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from studies.images.histogram import count_values, noise_scale

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=8)
FLOATS = st.floats(-1e6, 1e6, width=32)
IMAGES = st.one_of(arrays(np.uint8, SHAPES), arrays(np.uint16, SHAPES), arrays(np.float32, SHAPES, elements=FLOATS))


@given(IMAGES)
def test_every_pixel_is_counted_once(image):
    histogram = count_values([image])
    assert histogram.counts.shape == (1, len(histogram.edges) - 1)
    assert histogram.counts.sum() == image.size
    assert (np.diff(histogram.edges) > 0).all()


def test_noise_is_measured_around_sources():
    rng = np.random.default_rng(0)
    sky = rng.normal(0, 2e-5, (128, 128)).astype(np.float32)
    sky[60:64, 60:64] = 0.2
    histogram = count_values([sky])
    assert histogram.noise == pytest.approx(2e-5, rel=0.03)
    assert histogram.noise == pytest.approx(mad_std(sky.astype(np.float64)))
    assert histogram.decades == pytest.approx(4, abs=0.05)
    assert histogram.is_logarithmic
    widths = np.diff(np.arcsinh(histogram.edges / histogram.noise))
    np.testing.assert_allclose(widths, widths[0])


@pytest.mark.parametrize(("values", "scale"), [([0, 0, 0, 3, 7], 3), ([0, 0, 0], 1), ([-0.5, 0, 0, 0], 0.5)])
def test_an_empty_background_has_the_scale_of_its_smallest_source(values, scale):
    assert noise_scale(np.array(values, dtype=np.float64)) == scale


def test_whole_values_are_spread_evenly_over_linear_bins():
    flat = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(32, 32)
    (counts,) = count_values([flat]).counts
    assert set(counts.tolist()) == {16}


def test_whole_values_over_many_decades_have_bins_around_whole_values():
    values = np.zeros((64, 64), dtype=np.uint16)
    values[:8, :8] = np.arange(64).reshape(8, 8) * 1000
    edges = count_values([values]).edges
    np.testing.assert_array_equal(edges % 1, 0.5)


def test_bands_are_counted_apart():
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[..., 1] = 10
    image[..., 2] = 20
    histogram = count_values([image, image])
    assert [int(histogram.edges[band.argmax()] + 1) // 10 for band in histogram.counts] == [0, 1, 2]
    assert histogram.counts.sum(axis=1).tolist() == [32, 32, 32]


def test_images_of_unlike_bands_are_counted_together():
    histogram = count_values([np.ones((4, 4), np.uint8), np.ones((4, 4, 3), np.uint8)])
    assert histogram.counts.sum(axis=1).tolist() == [64]


def test_pixels_that_are_not_finite_are_counted_as_such():
    image = np.array([[1.0, np.nan], [np.inf, 2.0]], dtype=np.float32)
    histogram = count_values([image])
    assert histogram.n_invalid == 2
    assert histogram.counts.sum() == 2
