"""A large FITS image that crops are cut from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.decoding.checksums import check_sums
from featurestore.datasets.decoding.fits import physical_values
from featurestore.datasets.decoding.quiet import ignored_warnings
from featurestore.datasets.remote import Place
from featurestore.errors import DatasetError, SkyprobeError, UnreadableImageError


@dataclass(frozen=True)
class ParentImage:
    """One plane of a FITS image or cube, rows as in the file.

    Attributes:
        path: The file.
        values: float32 (H, W).
        wcs: `astropy.wcs.WCS` of the two image axes, or None: the image has no celestial coordinates.
        cards: What the headers of its crops say of it: keyword -> (value, comment).
    """

    path: Place
    values: NDArray[np.float32]
    wcs: Any
    cards: dict[str, tuple[Any, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Place, plane: int = 0, extension: str | int | None = None) -> ParentImage:
        """Read one plane; the others of a cube stay on the disk, or in the bucket.

        Args:
            path: A FITS file, compressed or not.
            plane: Number of the plane, over all axes beyond the first two, the last of them slowest.
            extension: Name or number of the HDU; None: the first with an image.

        Raises:
            DatasetError: The file cannot be read, does not fit its own DATASUM or CHECKSUM, or holds no image, no such
                plane, or no finite pixel.
        """
        from astropy.io import fits

        try:
            file = path if isinstance(path, Path) else path.open_ranges()
            with ignored_warnings(), fits.open(file, memmap=False) as hdus:
                hdu = _choose(hdus, extension, path)
                if isinstance(path, Path):  # of a file elsewhere, only the plane is fetched
                    check_sums(hdu.fileinfo()["file"], hdu.fileinfo(), str(path))
                values = _plane_of(hdu, plane, path)
                wcs, unit = _celestial(hdu.header, values.shape), str(hdu.header.get("BUNIT", ""))
        except UnreadableImageError as error:
            raise _refusal(error.what, path) from error
        except SkyprobeError:
            raise
        except Exception as error:  # inside a parser, damage can surface as almost anything
            raise _refusal(f"the FITS image cannot be read: {error or type(error).__name__}", path) from error
        if not np.isfinite(values).any():
            raise _refusal("the image has no finite pixel", path)
        cards = {"PARENT": (path.name, "image that this was cut from"), "PLANE": (plane, "its plane, from 0")}
        return cls(path, values, wcs, cards | ({"BUNIT": (unit, "")} if unit else {}))

    def stretched(self, percentiles: tuple[float, float]) -> ParentImage:
        """The image with these percentiles of its finite pixels at 0 and 1, clipped there; NaN stays NaN.

        Raises:
            DatasetError: The percentiles are equal.
        """
        low, high = (float(v) for v in np.percentile(self.values[np.isfinite(self.values)], percentiles))
        if not high > low:
            raise _refusal(f"the percentiles leave nothing to stretch between {low:g} and {high:g}", self.path)
        values = np.clip((self.values - np.float32(low)) / np.float32(high - low), 0, 1).astype(np.float32)
        cards = {name: card for name, card in self.cards.items() if name != "BUNIT"} | {
            "PCTLOW": (percentiles[0], "percentile of the parent that became 0"),
            "PCTHIGH": (percentiles[1], "percentile of the parent that became 1"),
            "VALLOW": (low, "value of the parent that became 0"),
            "VALHIGH": (high, "value of the parent that became 1"),
        }
        return replace(self, values=values, cards=cards)

    def write_crop(self, path: Path, x: int, y: int, size: int) -> None:
        """Write the square whose first pixel is column `x` and row `y`, float32 with its place on the sky."""
        from astropy.io import fits
        from astropy.nddata import Cutout2D

        middle = (x + (size - 1) / 2, y + (size - 1) / 2)
        cutout = Cutout2D(self.values, middle, size, wcs=self.wcs, mode="strict", copy=True)
        hdu = fits.PrimaryHDU(cutout.data, cutout.wcs.to_header() if cutout.wcs else None)
        place = {"XPARENT": (x, "column of the first pixel in the parent, from 0"), "YPARENT": (y, "its row, from 0")}
        for name, card in (self.cards | place).items():
            hdu.header[name] = card
        hdu.writeto(path)


def _choose(hdus: Any, extension: str | int | None, path: Place) -> Any:
    images = (one for one in hdus if one.is_image and one.shape)
    hdu = next(images, None) if extension is None else hdus[extension]
    if hdu is None or not hdu.is_image or len(hdu.shape) < 2:
        raise _refusal("the FITS file holds no image", path)
    return hdu


def _plane_of(hdu: Any, plane: int, path: Place) -> NDArray[np.float32]:
    shape = hdu.shape[:-2]
    if plane >= math.prod(shape):
        raise _refusal(f"there is no plane {plane}, but {math.prod(shape)} planes, counted from 0", path)
    index = tuple(int(number) for number in np.unravel_index(plane, shape)) if shape else ()
    return physical_values(hdu, (*index, slice(None), slice(None)))


def _celestial(header: Any, shape: tuple[int, ...]) -> Any:
    from astropy.wcs import WCS

    wcs = WCS(header).sub(2)  # the axes of the array, in its order
    if not wcs.has_celestial:
        return None
    wcs.pixel_shape = shape[::-1]
    return wcs


def _refusal(what: str, path: Place) -> DatasetError:
    return DatasetError(what, where=path, hint="Give a FITS image, or a cube and the number of its plane.")
