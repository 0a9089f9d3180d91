"""The oracle is astropy, which writes the checksums."""

from io import BytesIO

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from featurestore.datasets.decoding.fits import decode_fits
from featurestore.errors import UnreadableImageError

IMAGE = np.random.default_rng(0).integers(0, 30_000, (40, 30)).astype(np.int16)


def summed(*hdus: fits.hdu.base.ExtensionHDU) -> bytes:
    file = BytesIO()
    fits.HDUList(list(hdus)).writeto(file, checksum=True)
    return file.getvalue()


PLAIN = summed(fits.PrimaryHDU(IMAGE))
FILES = {
    "plain": PLAIN,
    "float": summed(fits.PrimaryHDU(), fits.ImageHDU(IMAGE.astype(">f4"))),
    "unsigned": summed(fits.PrimaryHDU(IMAGE.astype(np.uint16))),
    "tiles": summed(fits.PrimaryHDU(), fits.CompImageHDU(IMAGE, compression_type="RICE_1")),
}


@pytest.mark.parametrize("kind", FILES)
def test_what_astropy_wrote_fits_its_checksums(kind: str) -> None:
    np.testing.assert_array_equal(decode_fits(BytesIO(FILES[kind]), "x"), IMAGE[::-1])


@pytest.mark.parametrize("kind", FILES)
@given(data=st.data())
def test_one_changed_byte_of_the_pixels_is_found(kind: str, data: st.DataObject) -> None:
    whole = FILES[kind]
    with fits.open(BytesIO(whole)) as hdus:
        place = hdus[-1].fileinfo()
    at = data.draw(st.integers(place["datLoc"], place["datLoc"] + place["datSpan"] - 1))
    damaged = bytearray(whole)
    damaged[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UnreadableImageError, match="their sum is not the DATASUM"):
        decode_fits(BytesIO(bytes(damaged)), "x")


def test_a_changed_header_is_found_by_the_checksum() -> None:
    file = BytesIO()
    hdu = fits.PrimaryHDU(IMAGE)
    hdu.header["BAND"] = "red"
    hdu.writeto(file, checksum=True)
    with pytest.raises(UnreadableImageError, match="do not fit the CHECKSUM"):
        decode_fits(BytesIO(file.getvalue().replace(b"'red", b"'rad")), "x")


def test_a_datasum_that_is_no_number_is_damage() -> None:
    start = PLAIN.index(b"DATASUM")
    digits = PLAIN.index(b"'", start) + 1
    with pytest.raises(UnreadableImageError, match="DATASUM"):
        decode_fits(BytesIO(PLAIN[:digits] + b"x" + PLAIN[digits + 1 :]), "x")


@pytest.mark.parametrize("checksum", ["", "none", "d41d8cd98f00b204e9800998ecf8427e"])
def test_a_keyword_of_another_convention_is_no_checksum(checksum: str) -> None:
    hdu = fits.PrimaryHDU(IMAGE)
    hdu.header["CHECKSUM"] = checksum
    file = BytesIO()
    hdu.writeto(file)
    np.testing.assert_array_equal(decode_fits(BytesIO(file.getvalue()), "x"), IMAGE[::-1])
