"""Decoded pixels of any type and layout, brought into the form of a `Sample`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.boundary import unreadable
from featurestore.registry import unknown_name

CHANNELS = ("first", "last")
"""Where the bands of an array may be, beside its rows and columns."""

KEPT = ("uint8", "uint16", "float32")
"""Types of number that stay as they are; all others become float32."""


def check_channels(channels: str | None) -> None:
    """Refuse a place of the bands that is neither None nor one of `CHANNELS`.

    Raises:
        UnknownNameError: The message names them.
    """
    if channels not in (None, *CHANNELS):
        raise unknown_name("place of the channels", channels, CHANNELS)


def without_losses(values: NDArray[Any], where: object) -> NDArray[Any]:
    """Values in native byte order as uint8, uint16 or float32; what lies beyond float32 becomes infinite.

    Raises:
        UnreadableImageError: Values that are not real numbers, or nothing but NaN.
    """
    if values.dtype.kind not in "uif":
        raise unreadable(f"pixels are {values.dtype}, which are not real numbers", where)
    if values.dtype.name in KEPT:
        plain = values.astype(values.dtype.newbyteorder("="), order="C", copy=False)
    else:
        with np.errstate(over="ignore"):
            plain = values.astype(np.float32, order="C")
    if plain.dtype.kind == "f" and np.isnan(plain).all():
        raise unreadable("every pixel is NaN", where)
    return plain


def on_black(values: NDArray[Any], n_bits: int) -> NDArray[Any]:
    """Unsigned integers (H, W, C + 1), whose last band is opacity, over black: (H, W, C), rounded to the nearest.

    Args:
        values: uint8 or uint16.
        n_bits: Bits in use: opaque is ``2 ** n_bits - 1``.
    """
    opaque = (1 << n_bits) - 1
    wide = np.dtype(np.uint16 if n_bits <= 8 else np.uint32)  # just enough for a product
    opacity = values[..., -1:].astype(wide)
    return ((values[..., :-1] * opacity + wide.type(opaque // 2)) // wide.type(opaque)).astype(values.dtype)


def turned(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The image (H, W, ...) as its EXIF orientation, 1 to 8, wants it to be shown; other numbers leave it as it is."""
    if orientation in (5, 6, 7, 8):
        image = np.swapaxes(image, 0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
