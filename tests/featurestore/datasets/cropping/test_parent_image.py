from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from featurestore.datasets.cropping.parent_image import ParentImage
from featurestore.datasets.decoding import checksums
from featurestore.errors import DatasetError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "parent.fits"


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("plane", [0, 1, 5])
def test_planes_are_counted_over_all_axes(path: Path, plane: int) -> None:
    cube = numbers(2, 3, 20, 30)
    fits.writeto(path, cube)
    image = ParentImage.read(path, plane)
    np.testing.assert_array_equal(image.values, cube.reshape(6, 20, 30)[plane])
    assert image.wcs is None and image.cards["PLANE"][0] == plane


def test_scaled_integers_and_blank_pixels(path: Path) -> None:
    hdu = fits.PrimaryHDU(np.array([[1, 2], [3, -1]], dtype=np.int16))
    hdu.header["BLANK"], hdu.header["BSCALE"], hdu.header["BZERO"] = -1, 0.5, 10
    hdu.writeto(path)
    np.testing.assert_array_equal(ParentImage.read(path).values, [[10.5, 11], [11.5, np.nan]])


@pytest.mark.parametrize("name", ["parent.fits.gz", "parent.fits.fz"])
def test_compressed_files(tmp_path: Path, name: str) -> None:
    values = numbers(20, 30)
    hdu = fits.CompImageHDU(values, quantize_level=0, compression_type="GZIP_1") if name.endswith("fz") else None
    (hdu or fits.PrimaryHDU(values)).writeto(tmp_path / name)
    np.testing.assert_array_equal(ParentImage.read(tmp_path / name).values, values)


def test_a_named_extension(path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(numbers(4, 4)), fits.ImageHDU(numbers(5, 5), name="SCI")]).writeto(path)
    assert ParentImage.read(path).values.shape == (4, 4)
    assert ParentImage.read(path, extension="SCI").values.shape == (5, 5)


@pytest.mark.parametrize("step", [4, 1 << 24])
def test_damage_that_the_file_itself_declares(path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle is astropy, which writes the sums."""
    monkeypatch.setattr(checksums, "_STEP", step)
    fits.PrimaryHDU(numbers(3, 40, 40)).writeto(path, checksum=True)
    assert ParentImage.read(path, 1).values[0, 0] == 1600
    data = bytearray(path.read_bytes())
    data[2880 + 4 * 1700] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="the pixels are damaged: their sum is not the DATASUM of the header"):
        ParentImage.read(path, 0)


def test_percentiles_are_those_of_the_finite_pixels(path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 60)).astype(np.float32)
    values[:10] = np.nan
    image = ParentImage(path, values, None, {"BUNIT": ("Jy/beam", "")}).stretched((5, 90))
    low, high = np.nanpercentile(values, (5, 90))
    np.testing.assert_allclose(image.values, np.clip((values - low) / (high - low), 0, 1), atol=1e-6)
    assert image.values.dtype == np.float32 and set(image.cards) == {"PCTLOW", "PCTHIGH", "VALLOW", "VALHIGH"}


@pytest.mark.parametrize("size", [1, 7, 8])
def test_crops_begin_where_they_are_asked_to(path: Path, size: int) -> None:
    values = numbers(20, 30)
    ParentImage(path, values, None).write_crop(path, 22, 3, size)
    np.testing.assert_array_equal(fits.getdata(path), values[3 : 3 + size, 22 : 22 + size])
    assert (fits.getheader(path)["XPARENT"], fits.getheader(path)["YPARENT"]) == (22, 3)
    assert fits.getdata(path).dtype.newbyteorder("=") == np.float32


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        (np.full((64, 64), np.nan), {}, "the image has no finite pixel"),
        (np.ones((2, 64, 64)), {"plane": 2}, "there is no plane 2, but 2 planes, counted from 0"),
        (np.ones(64), {}, "the FITS file holds no image .*Give a FITS image, or a cube"),
        (np.ones((64, 64)), {"extension": "SCI"}, "cannot be read: .*SCI"),
    ],
)
def test_images_that_cannot_be_used(path: Path, values: np.ndarray, options: dict[str, Any], reason: str) -> None:
    fits.writeto(path, values.astype(np.float32))
    with pytest.raises(DatasetError, match=reason):
        ParentImage.read(path, **options)


def test_what_is_no_fits_file(path: Path) -> None:
    path.write_text("no image")
    with pytest.raises(DatasetError, match="the FITS image cannot be read"):
        ParentImage.read(path)


def test_equal_percentiles(path: Path) -> None:
    with pytest.raises(DatasetError, match="the percentiles leave nothing to stretch between 1 and 1"):
        ParentImage(path, np.ones((4, 4), np.float32), None).stretched((2, 98))
