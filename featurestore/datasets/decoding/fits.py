"""From a FITS file to pixels in display order, with astropy; what cannot be read says why."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.decoding.quiet import ignored_warnings
from featurestore.errors import UnreadableImageError

MAX_VALUES = 178_956_970
"""Largest number of values in one image; the limit that Pillow sets for its pixels."""

_GZIP = b"\x1f\x8b"


def decode_fits(file: BinaryIO, where: str, extension: str | int | None = None) -> NDArray[np.float32]:
    """Read one image of a FITS file, compressed or not.

    BSCALE, BZERO and BLANK are applied. Blank and NaN pixels are NaN in the result; preprocessing decides about them.
    FITS counts rows from the bottom of the sky image, so rows are reversed: the last one (north) comes first.

    Args:
        file: The open file.
        where: Path or name, for messages.
        extension: Name (EXTNAME) or number of the HDU; None: the first that holds an image.

    Returns:
        float32 (H, W), or (H, W, C) of a cube with C planes. Axes of length one are dropped.

    Raises:
        UnreadableImageError: No image in the file, a damaged or too large one, or one without a single number.
    """
    try:
        values = _read(file, where, extension)
    except UnreadableImageError:
        raise
    except Exception as error:  # inside a parser, damage can surface as almost anything
        raise _unreadable(f"the FITS file is damaged: {error or type(error).__name__}", where) from error
    if np.isnan(values).all():
        raise _unreadable("every pixel is NaN", where)
    return _in_display_order(values, where)


def read_header(file: BinaryIO, where: str, extension: str | int | None = None) -> Any:
    """The `astropy.io.fits.Header` of the image that `decode_fits` reads from a sound file.

    Raises:
        UnreadableImageError: No image in the file.
    """
    with _image_hdu(file, where, extension) as hdu:
        return hdu.header.copy()


def _unreadable(reason: str, where: str) -> UnreadableImageError:
    return UnreadableImageError(reason, where=where, hint="Replace or remove the file.")


def _read(file: BinaryIO, where: str, extension: str | int | None) -> NDArray[np.float32]:
    """Values as the file has them, in its own order of rows and axes."""
    with _image_hdu(file, where, extension) as hdu:
        if math.prod(hdu.shape) > MAX_VALUES:
            raise _unreadable(f"the image is too large: {hdu.shape} values exceed the limit of {MAX_VALUES}", where)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite
            return np.asarray(hdu.data).astype(np.float32)


@contextmanager
def _image_hdu(file: BinaryIO, where: str, extension: str | int | None) -> Iterator[Any]:
    """The HDU that is read, while the file is open."""
    start = file.read(2)
    file.seek(0)
    if not start:
        raise _unreadable("the file is empty", where)
    with gzip.open(file) if start == _GZIP else nullcontext(file) as plain, _open(plain) as hdus:
        with ignored_warnings():
            hdu = _first_image(hdus, where) if extension is None else _named(hdus, extension, where)
        yield hdu


def _open(file: Any) -> Any:
    from astropy.io import fits

    with ignored_warnings():
        return fits.open(file, mode="readonly", memmap=False)


def _first_image(hdus: Any, where: str) -> Any:
    for hdu in _forwards(hdus, where):
        if hdu.is_image and hdu.shape:
            return hdu
    raise _unreadable("no extension of the FITS file holds an image", where)


def _named(hdus: Any, extension: str | int, where: str) -> Any:
    for _ in _forwards(hdus, where):
        pass  # all headers are known to be sound before one is looked up
    try:
        hdu = hdus[extension]
    except (KeyError, IndexError) as error:
        raise _unreadable(f"the FITS file has no extension {extension!r}", where) from error
    if not (hdu.is_image and hdu.shape):
        raise _unreadable(f"the extension {extension!r} holds no image", where)
    return hdu


def _forwards(hdus: Any, where: str) -> Iterator[Any]:
    """HDUs as they are read; a damaged length can lead back, and astropy would then read on for ever."""
    reached = -1
    for hdu in hdus:
        begins, length = hdu.fileinfo()["hdrLoc"], hdu.fileinfo()["datSpan"]
        if begins <= reached or length < 0:
            raise _unreadable("the FITS file is damaged: a header gives an impossible length", where)
        reached = begins
        yield hdu


def _in_display_order(values: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    planes = [length for length in values.shape[:-2] if length > 1]
    if values.ndim < 2 or len(planes) > 1:
        raise _unreadable(f"the array of shape {values.shape} is neither an image nor a cube", where)
    image = values.reshape(*planes, *values.shape[-2:])
    if planes:
        image = np.moveaxis(image, 0, -1)
    return np.ascontiguousarray(image[::-1])
