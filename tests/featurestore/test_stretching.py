"""Stretches agree with astropy.visualization composed by hand, and refuse what cannot be stretched."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import visualization as av
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featurestore.errors import PreprocessingError, UnknownNameError, UsageError
from featurestore.stretching import Stretch

FIRST_FITS = Path(__file__).parents[3] / "shared" / "data" / "first_hdr_fits"

ALL_STRETCHES = [
    *("none", "minmax", "zscale", "percentile", "sigmaclip", "linear", "asinh", "log", "sqrt"),
    *("zscale+asinh", "percentile:1:99.5+log:100", "sqrt+minmax", "sigmaclip:2+asinh:0.02"),
]


def sky(seed: int = 0, shape: tuple[int, ...] = (60, 50)) -> NDArray[np.float32]:
    """Noise with a few bright sources, as float32 in physical units."""
    rng = np.random.default_rng(seed)
    image = rng.normal(2e-4, 1e-4, shape)
    bright = rng.random(shape) > 0.98
    return np.where(bright, rng.exponential(0.05, shape), image).astype(np.float32)


def stretch(text: str, plane: NDArray) -> NDArray[np.float32]:
    return Stretch.parse(text).apply(plane[..., None])[..., 0]


@pytest.mark.parametrize(
    ("text", "interval", "curve"),
    [
        ("none", av.MinMaxInterval(), av.LinearStretch()),
        ("minmax", av.MinMaxInterval(), av.LinearStretch()),
        ("linear", av.MinMaxInterval(), av.LinearStretch()),
        ("asinh", av.MinMaxInterval(), av.AsinhStretch(0.1)),
        ("asinh:0.02", av.MinMaxInterval(), av.AsinhStretch(0.02)),
        ("log", av.MinMaxInterval(), av.LogStretch(1000)),
        ("log:50", av.MinMaxInterval(), av.LogStretch(50)),
        ("sqrt", av.MinMaxInterval(), av.SqrtStretch()),
        ("zscale", av.ZScaleInterval(), av.LinearStretch()),
        ("zscale:0.5", av.ZScaleInterval(contrast=0.5), av.LinearStretch()),
        ("percentile", av.AsymmetricPercentileInterval(1, 99), av.LinearStretch()),
        ("percentile:0:99.5", av.AsymmetricPercentileInterval(0, 99.5), av.LinearStretch()),
        ("percentile:5:95+asinh:0.3", av.AsymmetricPercentileInterval(5, 95), av.AsinhStretch(0.3)),
        ("sqrt+zscale", av.ZScaleInterval(), av.SqrtStretch()),
    ],
)
def test_stretch_equals_astropy_composed_by_hand(text, interval, curve) -> None:
    image = sky()
    expected = curve(interval(image.astype(np.float64)))
    stretched = stretch(text, image)
    assert stretched.dtype == np.float32
    np.testing.assert_allclose(stretched, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("sigma", [2.0, 3.0])
def test_sigmaclip_runs_from_the_clipped_background_to_the_maximum(sigma: float) -> None:
    image = sky().astype(np.float64)
    kept = image.ravel()
    for _ in range(5):
        kept = kept[np.abs(kept - np.median(kept)) <= sigma * kept.std()]
    low = np.median(kept) + sigma * kept.std()
    expected = np.clip((image - low) / (image.max() - low), 0, 1)
    stretched = stretch(f"sigmaclip:{sigma:g}", image.astype(np.float32))
    np.testing.assert_allclose(stretched, expected, rtol=0, atol=1e-7)
    assert 0 < np.count_nonzero(stretched) < 0.1 * stretched.size


@pytest.mark.parametrize(
    ("text", "written_out"),
    [
        ("zscale", "zscale:0.25"),
        ("percentile", "percentile:1:99"),
        ("sigmaclip", "sigmaclip:3"),
        ("asinh", "asinh:0.1"),
        ("log", "log:1000"),
        ("asinh+zscale", "zscale+asinh"),
    ],
)
def test_defaults_and_order_do_not_matter(text: str, written_out: str) -> None:
    assert Stretch.parse(text) == Stretch.parse(written_out)


def test_none_leaves_8_bit_images_alone() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert Stretch.parse("none").apply(image) is image


def test_none_divides_16_bit_images_by_their_largest_value() -> None:
    image = np.array([[0, 1, 32768, 65535]], dtype=np.uint16)
    assert stretch("none", image).tolist() == [[0, np.float32(1 / 65535), np.float32(32768 / 65535), 1]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_curve_alone_bends_integers_over_the_range_of_their_type(dtype: type) -> None:
    image = np.array([[10, 100, 200]], dtype=dtype)
    expected = av.AsinhStretch(0.1)(image / np.iinfo(dtype).max)
    np.testing.assert_allclose(stretch("asinh:0.1", image), expected, rtol=0, atol=1e-7)


def test_an_interval_stretches_integers_by_their_own_values() -> None:
    assert stretch("minmax", np.array([[10, 15, 20]], dtype=np.uint8)).tolist() == [[0, 0.5, 1]]


def test_each_band_is_stretched_by_itself() -> None:
    faint, bright = sky(1), 1000 * sky(2)
    both = Stretch.parse("percentile+asinh").apply(np.stack([faint, bright], axis=-1))
    np.testing.assert_array_equal(both[..., 0], stretch("percentile+asinh", faint))
    np.testing.assert_array_equal(both[..., 1], stretch("percentile+asinh", bright))


@pytest.mark.parametrize("text", ALL_STRETCHES)
def test_pixels_that_are_not_finite_become_zero_and_count_for_nothing(text: str) -> None:
    image = sky()
    holes = np.random.default_rng(3).random(image.shape) > 0.9
    holed = image.copy()
    holed[holes] = np.resize([np.nan, np.inf, -np.inf], holes.sum())
    stretched = stretch(text, holed)
    assert not stretched[holes].any()
    np.testing.assert_array_equal(stretched[~holes], stretch(text, image[~holes][None])[0])


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">u2"])
def test_byte_order_and_width_do_not_matter(dtype: str) -> None:
    image = (sky() * 1e4).clip(0).astype(np.uint16)
    np.testing.assert_array_equal(stretch("percentile+log", image.astype(dtype)), stretch("percentile+log", image))


def test_the_image_itself_is_not_changed() -> None:
    image = sky()[..., None].astype(np.float64)
    before = image.copy()
    Stretch.parse("zscale+sqrt").apply(image)
    np.testing.assert_array_equal(image, before)


parameters = st.floats(1e-6, 1e6)
curves = st.one_of(
    st.sampled_from(["none", "minmax", "linear", "sqrt"]),
    st.builds("asinh:{}".format, parameters),
    st.builds("log:{}".format, parameters),
)
float32s = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=200)
@given(text=curves, values=st.lists(float32s, min_size=1, max_size=12))
def test_any_float_image_lands_in_the_unit_range_in_order(text: str, values: list[float]) -> None:
    plane = np.array([values], dtype=np.float32)
    finite = plane[np.isfinite(plane)]
    if np.unique(finite).size < 2:
        with pytest.raises(PreprocessingError):
            stretch(text, plane)
        return
    stretched = stretch(text, plane)
    kept = stretched[np.isfinite(plane)][np.argsort(finite, kind="stable")]
    assert stretched.dtype == np.float32
    assert kept[0] == 0
    assert kept[-1] == 1
    assert (np.diff(kept) >= 0).all()


@pytest.mark.parametrize("text", ["none", "zscale", "percentile+asinh", "sigmaclip"])
def test_a_constant_image_is_refused(text: str) -> None:
    with pytest.raises(PreprocessingError, match=r"nothing to stretch between 0\.5 and 0\.5: all equal.*Remove the im"):
        stretch(text, np.full((8, 8), 0.5, dtype=np.float32))


def test_an_image_of_background_alone_is_refused() -> None:
    image = np.tile(np.array([0.0, 1.0], dtype=np.float32), (8, 4))
    with pytest.raises(PreprocessingError, match=r"between 2 and 1: .*all background \[stretch=sigmaclip\]"):
        stretch("sigmaclip:3", image)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_a_finite_pixel_is_refused(value: float) -> None:
    with pytest.raises(PreprocessingError, match=r"^the image has no finite pixel \[stretch\]\. Remove the image\.$"):
        stretch("asinh", np.full((4, 4), value, dtype=np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zscale+percentile", "two intervals in one stretch [zscale+percentile]. Give one interval and one curve."),
        ("asinh+log", "two curves in one stretch [asinh+log]"),
        ("asinh:0", "the parameters of the stretch do not fit [asinh:0]. By default: 0.1."),
        ("asinh:-1", "do not fit [asinh:-1]"),
        ("asinh:nan", "do not fit [asinh:nan]"),
        ("log:inf", "do not fit [log:inf]. By default: 1000."),
        ("log:1e-20", "Numbers lie in [1e-6, 1e6]"),
        ("asinh:a", "do not fit [asinh:a]"),
        ("asinh:0.1:0.2", "do not fit [asinh:0.1:0.2]"),
        ("linear:a", "do not fit [linear:a]. By default: none."),
        ("sqrt:2", "do not fit [sqrt:2]. By default: none."),
        ("percentile:99:1", "do not fit [percentile:99:1]. By default: 1:99."),
        ("percentile:5", "do not fit [percentile:5]"),
        ("percentile:0:101", "percentiles in [0, 100] and in order"),
        ("percentile:-1:99", "percentiles in [0, 100] and in order"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        Stretch.parse(text)


def test_pixels_that_are_stretched_already_are_only_clipped() -> None:
    plane = np.array([[0.25, 0.5, 0.75], [-1, 2, np.nan]], dtype=np.float32)
    assert stretch("unit", plane).tolist() == [[0.25, 0.5, 0.75], [0, 1, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asinn:0.1", "unknown stretch 'asinn' [stretch]. Did you mean asinh"),
        ("zscale+none", "unknown stretch 'none'"),
        ("", "Known: asinh, linear, log, minmax, none, percentile, sigmaclip, sqrt, unit, zscale."),
    ],
)
def test_an_unknown_stretch_offers_what_there_is(text: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=re.escape(message)):
        Stretch.parse(text)


@pytest.mark.skipif(not FIRST_FITS.is_dir(), reason="the FIRST cut-outs are not on this machine")
@pytest.mark.parametrize("text", ["zscale", "sigmaclip", "asinh", "zscale+asinh", "percentile:1:99.5+log"])
def test_real_radio_galaxies(text: str) -> None:
    paths = sorted(FIRST_FITS.glob("*.fits"))
    assert paths
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fits.verify.VerifyWarning)  # tabs in the headers of FIRST
            image = fits.getdata(path)
        stretched = stretch(text, image)
        assert stretched.shape == image.shape
        assert np.isfinite(stretched).all()
        assert stretched.min() == 0
        assert stretched.max() == 1
        peak = np.unravel_index(np.nanargmax(image), image.shape)
        assert stretched[peak] == 1
