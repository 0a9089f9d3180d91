"""Pictures of more than 8 bits a channel, by imagecodecs: Pillow would cut their colours to 8."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from featurestore.datasets.budget import check_size
from featurestore.datasets.decoding.arrays import on_black, turned, without_losses
from featurestore.datasets.decoding.quiet import ignored_warnings

_CODESTREAM = b"\xff\x4f\xff\x51"
"""How a JPEG 2000 codestream begins; its segment SIZ gives the number of components and their bits."""


def decode_deep(data: bytes, image: Image.Image, where: str) -> NDArray[Any] | None:
    """Pixels of a PNG, JPEG 2000 or AVIF file of more than 8 bits a channel, with the values that were written.

    Transparency is composited on black, and the EXIF orientation is applied.

    Args:
        data: The file.
        image: The same, opened by Pillow but not loaded.
        where: Path or name, for messages.

    Returns:
        uint16 (H, W) or (H, W, C), float32 for signed numbers; None: the file has no more than 8 bits.

    Raises:
        UnreadableImageError: More than the budget of an image.
    """
    read = {"PNG": _read_png, "JPEG2000": _read_jpeg_2000, "AVIF": _read_avif}.get(image.format or "")
    pixels = read(data, image, where) if read else None
    if pixels is None:
        return None
    with ignored_warnings():
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    return turned(without_losses(flat, where), orientation)


def _read_png(data: bytes, image: Image.Image, where: str) -> NDArray[Any] | None:
    if data[24] != 16:  # the bit depth in the header, which is always first
        return None
    from imagecodecs import png_decode

    check_size((image.height, image.width, 4), 2, where)
    pixels = np.asarray(png_decode(data))
    return on_black(pixels, 16) if pixels.ndim == 3 and pixels.shape[-1] in (2, 4) else pixels


def _read_jpeg_2000(data: bytes, image: Image.Image, where: str) -> NDArray[Any] | None:
    start = data.find(_CODESTREAM)
    n_components, bits = int.from_bytes(data[start + 40 : start + 42], "big"), data[start + 42]
    if start < 0 or bits < 8:  # one less than there are; signed numbers have the highest bit as well
        return None
    from imagecodecs import jpeg2k_decode

    check_size((image.height, image.width, n_components), 4, where)
    return np.asarray(jpeg2k_decode(data))


def _read_avif(data: bytes, image: Image.Image, where: str) -> NDArray[Any] | None:
    start = data.find(b"av1C")
    if start < 0 or not data[start + 6] & 0x40:  # high_bitdepth
        return None
    from imagecodecs import avif_decode

    check_size((image.height, image.width, 4), 2, where)
    pixels = np.asarray(avif_decode(data, index=0))
    n_bits = 12 if data[start + 6] & 0x20 else 10
    return on_black(pixels, n_bits) if pixels.ndim == 3 and pixels.shape[-1] == 4 else pixels
