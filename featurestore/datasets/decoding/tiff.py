"""TIFF by tifffile: every type of number as it was written, and pages as bands."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from logging import NullHandler, getLogger
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.boundary import unreadable
from featurestore.datasets.budget import check_size
from featurestore.datasets.decoding.arrays import on_black, turned, without_losses

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_ASSOCIATED, _UNASSOCIATED = 1, 2
_ORIENTATION, _NODATA = 274, 42113
_REDUCED, _MASK = 1, 4
_MAX_PAGES = 10_000

getLogger("tifffile").addHandler(NullHandler())  # what is wrong with a file is told by its row, not on the terminal


def decode_tiff(data: bytes, where: str) -> NDArray[Any] | None:
    """The pixels of a TIFF, which may be of any type of number.

    Pages of one size are bands of one image, as the planes of a FITS cube are; smaller copies of a page and masks are
    left out. Where 0 is white, unsigned integers are inverted, so that more is brighter. Pixels that have the value of
    GDAL's tag for missing ones are NaN, or black in images of 8 and 16 bits.

    Returns:
        (H, W) or (H, W, C), as `decode_image`; None: the file is something else, or its pixels are what Pillow knows
        how to convert: palettes, CMYK, YCbCr, fewer than 8 bits.

    Raises:
        UnreadableImageError: Pages or samples that are not one image, or more than the budget of an image.
    """
    if not data.startswith(TIFF_MAGIC):
        return None
    from tifffile import TiffFile

    with TiffFile(BytesIO(data), is_ome=False) as tiff:  # OME metadata would lead to other files
        pages = _pages(tiff, where)
        first = pages[0]
        _check_announced(tiff, len(pages), where)
        if int(first.photometric) not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or first.bitspersample < 8:
            if len(pages) > 1:
                raise unreadable(f"the TIFF holds {len(pages)} pages in colour, not one image", where)
            if first.bitspersample > 8:
                kind = getattr(first.photometric, "name", first.photometric)
                raise unreadable(f"{first.bitspersample}-bit {kind} is not read: Pillow would cut it to 8 bits", where)
            return None
        check_size((len(pages), *first.shape), first.dtype.itemsize if first.dtype else 1, where)
        image = _join([_decode(page, where) for page in pages], where)
        orientation = first.tags.get(_ORIENTATION)
        return turned(image, orientation.value if orientation else 1)


def _pages(tiff: Any, where: str) -> list[Any]:
    """Pages of the image itself, all of one shape and type."""
    pages = []
    for number, page in enumerate(tiff.pages):
        if number >= _MAX_PAGES:
            raise unreadable(f"the TIFF has more than {_MAX_PAGES} pages", where)
        whole = page.aspage()
        if not whole.subfiletype & (_REDUCED | _MASK):
            pages.append(whole)
    if not pages:
        raise unreadable("the TIFF holds no image, but smaller copies and masks", where)
    kinds = {(page.shape, page.dtype, page.photometric, page.planarconfig) for page in pages}
    if len(kinds) > 1:
        sizes = ", ".join(" x ".join(map(str, page.shape)) for page in pages[:5])
        raise unreadable(
            f"the TIFF holds {len(pages)} pages that differ in size or type ({sizes}), not one image", where
        )
    return pages


def _check_announced(tiff: Any, n_pages: int, where: str) -> None:
    """Refuse a stack whose other images follow the first without pages of their own."""
    announced = 1
    if tiff.is_imagej:
        announced = int((tiff.imagej_metadata or {}).get("images", 1))
    elif tiff.is_shaped:
        announced = sum(series.size for series in tiff.series) // max(1, tiff.pages[0].aspage().size)
    if announced > n_pages:
        raise unreadable(f"the TIFF announces {announced} images in {n_pages} pages", where)


def _decode(page: Any, where: str) -> NDArray[Any]:
    """One page, (H, W) or (H, W, C)."""
    _check_segments(page, where)
    values = _without_missing(np.asarray(page.asarray(maxworkers=1)), page)
    axes = list(page.axes)
    for axis in [number for number, name in enumerate(axes) if name not in "YXS"][::-1]:
        if values.shape[axis] != 1:
            raise unreadable(f"the TIFF holds a volume of shape {values.shape}, not an image", where)
        values = values.squeeze(axis)
        del axes[axis]
    if "S" in axes:
        values = np.moveaxis(values, axes.index("S"), -1)
    return _without_alpha(_upright_values(values, page, where), page)


def _check_segments(page: Any, where: str) -> None:
    """Refuse a page whose bytes are not all there: tifffile would read zeros in their place."""
    starts, lengths = (np.array(values, dtype=np.float64) for values in (page.dataoffsets, page.databytecounts))
    if not len(starts) or len(starts) != len(lengths) or (lengths < 1).any():
        raise unreadable("the image is damaged: the TIFF lacks some of its pixels", where)
    if (starts + lengths).max() > page.parent.filehandle.size:
        raise unreadable("the image is damaged: the TIFF ends before its pixels do", where)


def _without_missing(values: NDArray[Any], page: Any) -> NDArray[Any]:
    """Pixels that GDAL marks as missing are NaN, and black where 8 or 16 bits have no NaN; see `_upright_values`."""
    missing = _find_missing(values, page)
    if missing is None or not missing.any():
        return values
    if values.dtype.name in ("uint8", "uint16"):
        black = (1 << page.bitspersample) - 1 if int(page.photometric) == _WHITE_IS_ZERO else 0
        return np.where(missing, values.dtype.type(black), values)
    with np.errstate(over="ignore"):
        return np.where(missing, np.float32(np.nan), values.astype(np.float32))


def _find_missing(values: NDArray[Any], page: Any) -> NDArray[np.bool_] | None:
    """Pixels whose samples all have the value of the tag GDAL_NODATA; None where there is no such number."""
    tag = page.tags.get(_NODATA)
    try:
        number = float(str(tag.value).rstrip("\0 ")) if tag else np.nan
    except ValueError:
        return None
    if np.isnan(number):  # as floating-point numbers they are NaN already
        return None
    with np.errstate(over="ignore"):
        equal: NDArray[np.bool_] = values == (values.dtype.type(number) if values.dtype.kind == "f" else number)
    return np.asarray(equal.all(axis=page.axes.index("S"), keepdims=True)) if "S" in page.axes else equal


def _upright_values(values: NDArray[Any], page: Any, where: str) -> NDArray[Any]:
    """Values of which more is brighter."""
    if int(page.photometric) != _WHITE_IS_ZERO:
        return values
    if values.dtype.kind != "u":
        raise unreadable(f"in this TIFF of {values.dtype} 0 is white, which has no meaning for such numbers", where)
    inverted: NDArray[Any] = values.dtype.type((1 << page.bitspersample) - 1) - values
    return inverted


def _without_alpha(values: NDArray[Any], page: Any) -> NDArray[Any]:
    """The image on black, if its last sample is opacity; samples of other meaning are bands."""
    extra = [int(kind) for kind in page.extrasamples]
    if values.ndim < 3 or not extra or extra[-1] not in (_ASSOCIATED, _UNASSOCIATED):
        return values
    deep = values.dtype.name not in ("uint8", "uint16")
    return values[..., :-1] if extra[-1] == _ASSOCIATED or deep else on_black(values, page.bitspersample)


def _join(pages: Sequence[NDArray[Any]], where: str) -> NDArray[Any]:
    if len(pages) > 1 and pages[0].ndim > 2:
        raise unreadable(f"the TIFF holds {len(pages)} pages of {pages[0].shape[-1]} bands each, not one image", where)
    image = pages[0] if len(pages) == 1 else np.stack(pages, axis=-1)
    return without_losses(image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image, where)
