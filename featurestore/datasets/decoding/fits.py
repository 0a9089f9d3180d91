"""From a FITS file to pixels in display order, with astropy; what cannot be read says why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.boundary import decoding, unreadable
from featurestore.datasets.budget import check_bytes, check_size, image_budget
from featurestore.datasets.decoding.arrays import without_losses
from featurestore.datasets.decoding.checksums import check_sums
from featurestore.datasets.decoding.compression import decompressed
from featurestore.datasets.decoding.quiet import ignored_warnings
from featurestore.datasets.decoding.tiles import check_tiles
from featurestore.errors import UnreadableImageError

_DAMAGED = "the FITS file is damaged"
_COLOURS = 4
"""Bands that a colour picture has at most."""


def decode_fits(
    file: BinaryIO, where: str, extension: str | int | None = None, channels: str | None = None
) -> NDArray[np.float32]:
    """Read one image of a FITS file, compressed or not.

    BSCALE, BZERO and BLANK are applied. Blank and NaN pixels are NaN in the result; preprocessing decides about them.
    FITS counts rows from the bottom of the sky image, so rows are reversed: the last one (north) comes first. Values
    are physical, and float32 whatever their type in the file: a stretch decides what is black and white.

    Args:
        file: The open file; gzip, bzip2, xz and compress (``.Z``) are undone.
        where: Path or name, for messages.
        extension: Name (EXTNAME) or number of the HDU; None: the first that holds an image.
        channels: ``first`` for a cube (C, H, W), whose planes are the bands, or ``last`` for (H, W, C), where NAXIS1
            counts them; None: first, unless the shape looks like a colour picture of the other kind.

    Returns:
        float32 (H, W), or (H, W, C) of a cube with C bands. Axes of length one are dropped wherever they are.

    Raises:
        UnreadableImageError: No image in the file; a damaged one, also by its own CHECKSUM, DATASUM or gzip trailer;
            one without a single number; one whose bands may be last; or more than the budget of an image (see
            `featurestore.datasets.budget`).
    """
    with decoding(where, _DAMAGED):
        values = _read(file, where, extension)
        return _in_display_order(without_losses(values, where), where, channels)


def read_header(file: BinaryIO, where: str, extension: str | int | None = None) -> Any:
    """The `astropy.io.fits.Header` of the image that `decode_fits` reads.

    Raises:
        UnreadableImageError: No image in the file, or a damaged one.
    """
    with decoding(where, _DAMAGED), _image_hdu(_Bounded(decompressed(file, where), where), where, extension) as hdu:
        return hdu.header.copy()


class _Bounded:
    """A file of which no more than `left` bytes are read: a damaged header may have no end."""

    mode = "rb"

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where, self.left = file, where, image_budget()
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= self.left else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise unreadable(f"{_DAMAGED}: its headers have no end", self._where)
        return data


def _read(file: BinaryIO, where: str, extension: str | int | None) -> NDArray[np.float32]:
    """Values as the file has them, in its own order of rows and axes."""
    bounded = _Bounded(decompressed(file, where), where)
    with _image_hdu(bounded, where, extension) as hdu:
        check_size(hdu.shape, max(4, abs(hdu.header["BITPIX"]) // 8), where)
        n_bytes = hdu.fileinfo()["datSpan"]
        check_bytes(n_bytes, where)
        bounded.left += 6 * n_bytes  # for the checksums, the tiles, and the pixels
        check_sums(bounded, hdu.fileinfo(), where)
        check_tiles(hdu, bounded, where)
        return physical_values(hdu)


def physical_values(hdu: Any, part: Any = None) -> NDArray[np.float32]:
    """Values of an image HDU, or of that part of it, with BSCALE, BZERO and BLANK applied; blank ones are NaN.

    Args:
        hdu: An open image HDU of astropy.
        part: Index into its array; None: all of it.
    """
    blank, zero = hdu.header.get("BLANK"), hdu.header.get("BZERO", 0)  # reading the pixels removes them
    found = np.asarray(hdu.data if part is None else hdu.section[part])
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite
        values = found.astype(np.float32)
    if isinstance(blank, int) and found.dtype.kind in "iu":  # astropy knows no blank among unsigned integers
        values[found == blank + int(zero)] = np.nan
    return values


@contextmanager
def _image_hdu(file: _Bounded, where: str, extension: str | int | None) -> Iterator[Any]:
    """The HDU that is read, while the file is open."""
    from astropy.io import fits

    with ignored_warnings():
        hdus = fits.open(file, mode="readonly", memmap=False)
    with hdus:
        with ignored_warnings():
            hdu = _first_image(hdus, where) if extension is None else _named(hdus, extension, where)
        yield hdu


def _first_image(hdus: Any, where: str) -> Any:
    empty = None
    for hdu in _forwards(hdus, where):
        if hdu.is_image and hdu.shape:
            if 0 not in hdu.shape:
                return hdu
            empty = empty or hdu
    if empty is None:
        raise unreadable("no extension of the FITS file holds an image", where)
    return empty


def _named(hdus: Any, extension: str | int, where: str) -> Any:
    for _ in _forwards(hdus, where):
        pass  # all headers are known to be sound before one is looked up
    try:
        hdu = hdus[extension]
    except (KeyError, IndexError) as error:
        raise unreadable(f"the FITS file has no extension {extension!r}", where) from error
    if not (hdu.is_image and hdu.shape):
        raise unreadable(f"the extension {extension!r} holds no image", where)
    return hdu


def _forwards(hdus: Any, where: str) -> Iterator[Any]:
    """HDUs as they are read; a damaged length can lead back, and astropy would then read on for ever."""
    reached = -1
    for hdu in hdus:
        begins, length = hdu.fileinfo()["hdrLoc"], hdu.fileinfo()["datSpan"]
        if begins <= reached or length < 0:
            raise unreadable(f"{_DAMAGED}: a header gives an impossible length", where)
        reached = begins
        yield hdu


def _in_display_order(values: NDArray[np.float32], where: str, channels: str | None) -> NDArray[np.float32]:
    shape = _without_degenerate_axes(values.shape)
    if len(shape) not in (2, 3):
        raise unreadable(f"the array of shape {values.shape} is neither an image nor a cube", where)
    image = values.reshape(shape)
    if len(shape) == 3 and channels is None and shape[-1] <= _COLOURS < min(shape[:2]):
        raise UnreadableImageError(
            f"the bands of the cube {shape} seem to be its last axis, NAXIS1",
            where=where,
            hint="Open the folder as fits:FOLDER,channels=last if they are, fits:FOLDER,channels=first if not.",
        )
    if len(shape) == 3 and channels != "last":
        image = np.moveaxis(image, 0, -1)
    return np.ascontiguousarray(image[::-1])


def _without_degenerate_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of the axes other than those of length one; where fewer than two are left, the last two are an image."""
    kept = tuple(length for length in shape if length > 1)
    if len(shape) == 2 or len(kept) >= 2:
        return shape if len(shape) == 2 else kept
    return (*(length for length in shape[:-2] if length > 1), *shape[-2:])
