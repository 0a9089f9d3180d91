from __future__ import annotations

import gzip
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits

from featurestore.datasets.budget import VARIABLE
from featurestore.datasets.decoding.fits import decode_fits
from featurestore.errors import UnreadableImageError

IMAGE = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32)


def compressed(tile: bytes) -> BytesIO:
    """A file of 8 x 8 pixels in one gzip tile."""
    column = fits.Column("COMPRESSED_DATA", "1PB()", array=np.array([np.frombuffer(tile, np.uint8)], dtype=object))
    table = fits.BinTableHDU.from_columns([column])
    table.header.update({"ZIMAGE": True, "ZCMPTYPE": "GZIP_1", "ZBITPIX": 16, "ZNAXIS": 2})
    table.header.update({"ZNAXIS1": 8, "ZNAXIS2": 8, "ZTILE1": 8, "ZTILE2": 8})
    file = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(file)
    return BytesIO(file.getvalue())


def test_a_tile_larger_than_the_budget_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(UnreadableImageError, match="a compressed tile holds more than the budget of an image"):
        decode_fits(compressed(gzip.compress(bytes(3 << 20))), "x.fits")


def test_a_tile_within_the_budget_is_left_to_astropy(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(64, dtype=">i2").reshape(8, 8)
    tile = gzip.compress(values.tobytes()) + bytes(2000)  # long enough to be measured
    monkeypatch.setenv(VARIABLE, "1")
    np.testing.assert_array_equal(decode_fits(compressed(tile), "x.fits"), values[::-1])


@pytest.mark.parametrize("kind", ["GZIP_1", "GZIP_2", "RICE_1"])
def test_sound_tiles_are_read(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    level = 1e-4 if kind == "RICE_1" else 0
    hdu, file = (
        fits.CompImageHDU(IMAGE, compression_type=kind, quantize_level=-level, tile_shape=IMAGE.shape),
        BytesIO(),
    )
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(file)
    np.testing.assert_allclose(decode_fits(BytesIO(file.getvalue()), "x.fits"), IMAGE[::-1], atol=level)


def test_a_damaged_tile_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(UnreadableImageError, match="the FITS file is damaged"):
        decode_fits(compressed(b"no gzip" * 500), "x.fits")
