import bz2
import gzip
import lzma
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits

from featurestore.datasets.budget import VARIABLE
from featurestore.datasets.decoding.compression import decompressed
from featurestore.datasets.decoding.fits import decode_fits
from featurestore.errors import UnreadableImageError

IMAGE = np.random.default_rng(0).integers(0, 30_000, (40, 30)).astype(np.int16)


def compress(data: bytes) -> bytes:
    """As the program compress: codes of 9 bits, the lowest first; code 256 empties the table before it grows."""
    codes = [code for at in range(0, len(data), 199) for code in (*data[at : at + 199], 256)]
    bits = np.unpackbits(np.array(codes, "<u2").view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")[:, :9]
    return b"\x1f\x9d\x90" + np.packbits(bits, bitorder="little").tobytes()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "Z": compress,
}


def fits_file() -> bytes:
    file = BytesIO()
    fits.PrimaryHDU(IMAGE).writeto(file)
    return file.getvalue()


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_every_compressor_is_undone(kind: str) -> None:
    file = BytesIO(COMPRESSORS[kind](fits_file()))
    np.testing.assert_array_equal(decode_fits(file, f"x.fits.{kind}"), IMAGE[::-1])


def test_a_plain_file_is_left_as_it_is() -> None:
    file = BytesIO(b"SIMPLE")
    assert decompressed(file, "x") is file
    assert file.tell() == 0


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_wrong_checksum_at_the_end_is_damage(kind: str) -> None:
    damaged = bytearray(COMPRESSORS[kind](fits_file()))
    damaged[-6 if kind == "gz" else -3] ^= 1
    with pytest.raises(UnreadableImageError, match="the FITS file is damaged"):
        decode_fits(BytesIO(bytes(damaged)), "x")


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_a_file_cut_off_is_damaged(kind: str) -> None:
    whole = COMPRESSORS[kind](fits_file())
    with pytest.raises(UnreadableImageError, match="the FITS file is damaged"):
        decode_fits(BytesIO(whole[: len(whole) // 2]), "x")


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_a_small_file_that_unfolds_beyond_the_budget_is_unreadable(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(UnreadableImageError, match="its bytes exceed the limit of 2 MiB"):
        decompressed(BytesIO(COMPRESSORS[kind](bytes(3 << 20))), "x")
