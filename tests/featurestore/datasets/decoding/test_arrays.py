from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from featurestore.datasets.decoding.arrays import check_channels, on_black, turned, without_losses
from featurestore.errors import UnknownNameError, UnreadableImageError


@pytest.mark.parametrize("channels", [None, "first", "last"])
def test_places_of_the_bands(channels: str | None) -> None:
    check_channels(channels)


def test_an_unknown_place_of_the_bands() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown place of the channels 'lats'.*Did you mean last"):
        check_channels("lats")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "kept"), [("u1", "u1"), ("u2", "u2"), ("f4", "f4"), ("i2", "f4"), ("u4", "f4"), ("f8", "f4"), ("f2", "f4")]
)
def test_values_stay_in_native_order(kind: str, kept: str, order: str) -> None:
    found = without_losses(np.array([[0, 1, 100]], dtype=order + kind), "x")
    assert found.dtype == np.dtype(kept)
    assert found.dtype.isnative
    assert found.tolist() == [[0, 1, 100]]


def test_what_float32_cannot_hold_is_infinite() -> None:
    assert without_losses(np.array([1e300, -1e300, 1.0]), "x").tolist() == [np.inf, -np.inf, 1.0]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(2, bool), "pixels are bool"),
        (np.zeros(2, complex), "pixels are complex128"),
        (np.full(2, np.nan), "every pixel is NaN"),
    ],
)
def test_values_that_are_not_real_numbers(values: np.ndarray, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=rf"{reason}.*\[x\]"):
        without_losses(values, "x")


@given(st.sampled_from([8, 10, 12, 16]), st.integers(0, 2**32))
def test_opacity_over_black_is_rounded_to_the_nearest(n_bits: int, seed: int) -> None:
    """The oracle is the product in float64; opaque / 2 is never met, since the largest value is odd."""
    top = 2**n_bits - 1
    values = np.random.default_rng(seed).integers(0, top, (3, 4, 4), dtype=np.uint16, endpoint=True)
    values = values.astype(np.uint8) if n_bits == 8 else values
    found = on_black(values, n_bits)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, np.rint(values[..., :3].astype(float) * values[..., 3:] / top))


@pytest.mark.parametrize("orientation", range(10))
def test_orientations_are_those_of_pillow(orientation: int) -> None:
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(turned(np.asarray(picture), orientation), expected)
