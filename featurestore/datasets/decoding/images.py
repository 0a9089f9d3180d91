"""From encoded bytes to pixels; what cannot be decoded says why.

Pillow decodes what has 8 bits a channel. Plain JPEG goes through libjpeg-turbo directly: the same pixels as Pillow's,
bit for bit, in 60 % of the time. Other libraries read what Pillow would cut to 8 bits.
"""

from __future__ import annotations

from hashlib import blake2b
from io import BytesIO
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from featurestore.datasets.boundary import decoding, unreadable
from featurestore.datasets.budget import check_bytes, check_size
from featurestore.datasets.decoding.arrays import on_black
from featurestore.datasets.decoding.deep import decode_deep
from featurestore.datasets.decoding.netpbm import decode_netpbm
from featurestore.datasets.decoding.png import check_length
from featurestore.datasets.decoding.quiet import ignored_warnings
from featurestore.datasets.decoding.tiff import TIFF_MAGIC, decode_tiff

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "AVIF", "PPM")
"""All that Pillow may try: among its other formats are some that start a program, such as PostScript."""

_BYTES = {"1": 1, "L": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
"""Bytes a pixel that Pillow takes, where they are not four."""


def digest_of(data: bytes) -> bytes:
    """BLAKE2b-128 of `data`, 16 bytes."""
    return blake2b(data, digest_size=16).digest()


def digest_of_pixels(image: NDArray[Any]) -> bytes:
    """BLAKE2b-128 of shape, dtype and pixels, 16 bytes."""
    header = f"{image.shape} {image.dtype.str} ".encode()
    return blake2b(header + image.tobytes(), digest_size=16).digest()


def digest_of_picture(data: bytes, image: NDArray[Any]) -> bytes:
    """What features of a picture are known by, 16 bytes: `digest_of` its file.

    Where older versions made other pixels of the same file, it is that of the pixels, so that such rows are embedded
    again: TIFF, and whatever has more than 8 bits.
    """
    anew = image.dtype != np.uint8 or data.startswith(TIFF_MAGIC)
    return digest_of_pixels(image) if anew else digest_of(data)


def decode_image(data: bytes, where: str) -> NDArray[Any]:
    """Decode a picture: PNG, JPEG, TIFF, WebP, GIF, BMP, JPEG 2000, AVIF, or PBM, PGM, PPM.

    Pixels have the values that were written: 8 bits stay 8 bits, more become uint16, also in colour (a 12-bit image
    spans 0 to 4095). Fewer than 8 bits are scaled to 8. EXIF orientation is applied, transparency is composited on
    black (the sky is dark), palettes and CMYK become RGB. Of an animation the first frame is taken; pages of a TIFF
    are bands.

    Args:
        data: The encoded image.
        where: Path or name, for messages.

    Returns:
        (H, W) or (H, W, C), three bands but for TIFF and JPEG 2000: uint8, uint16, or float32 of signed, 32-bit and
        floating-point numbers.

    Raises:
        UnreadableImageError: Nothing, no such picture, a damaged one, pages that are not one image, or more than the
            budget of an image (see `featurestore.datasets.budget`) or Pillow's limit of 179 million pixels.
    """
    if not data:
        raise unreadable("the file is empty", where)
    check_bytes(len(data), where)
    with decoding(where):
        return _decode(data, where)


def _decode(data: bytes, where: str) -> NDArray[Any]:
    for decode in (decode_tiff, decode_netpbm):
        pixels = decode(data, where)
        if pixels is not None:
            return pixels
    image = _open(data, where)
    pixels = decode_deep(data, image, where)
    return _load(data, image, where) if pixels is None else pixels


def _open(data: bytes, where: str) -> Image.Image:
    """The header alone, of a known format and within the budget."""
    try:
        with ignored_warnings():
            image: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise unreadable(f"the image is too large: {error}", where) from error
    except UnidentifiedImageError as error:
        raise unreadable(f"the file is not a picture of a known format ({', '.join(FORMATS)})", where) from error
    check_size((image.height, image.width), _BYTES.get(image.mode, 4), where)
    return image


def _load(data: bytes, image: Image.Image, where: str) -> NDArray[Any]:
    if _is_plain_jpeg(image):
        try:
            return _decode_jpeg(data, image.mode)
        except ValueError:
            pass  # libjpeg complains of harmless oddities too: Pillow says what is damage
    image.load()
    if image.format == "PNG" and _may_be_short(image):
        check_length(data, where)
    with ignored_warnings():
        ImageOps.exif_transpose(image, in_place=True)
    return _to_array(image)


def _may_be_short(image: Image.Image) -> bool:
    """Whether a decoded PNG may have ended before its last row, which would then be zeros."""
    return bool(image.info.get("interlace")) or not np.asarray(image)[-1].any()


def _is_plain_jpeg(image: Image.Image) -> bool:
    """Grey or RGB, upright, a single picture."""
    if image.format != "JPEG" or image.mode not in ("L", "RGB"):
        return False
    with ignored_warnings():
        return bool(image.getexif().get(ExifTags.Base.Orientation, 1) == 1)


def _decode_jpeg(data: bytes, mode: str) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "GRAY" if mode == "L" else "RGB", strict=True)
    return pixels[..., 0] if mode == "L" else pixels


def _to_array(image: Image.Image) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("F", "I"):
        return np.asarray(image, dtype=np.float32)
    if image.has_transparency_data:
        return on_black(np.asarray(image.convert("RGBA")), 8)
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
