from __future__ import annotations

import gzip
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.datasets.budget import VARIABLE, image_budget
from featurestore.datasets.decoding.fits import decode_fits, read_header
from featurestore.errors import UnreadableImageError

IMAGE = np.arange(12, dtype=np.float32).reshape(3, 4)


def file_of(*hdus: fits.hdu.base.ExtensionHDU) -> BytesIO:
    file = BytesIO()
    fits.HDUList(list(hdus)).writeto(file, output_verify="ignore")
    return BytesIO(file.getvalue())


def read(hdu: fits.PrimaryHDU) -> np.ndarray:
    return decode_fits(file_of(hdu), "x.fits")


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", "u1", ">i4"])
def test_every_type_becomes_native_float32(dtype: str) -> None:
    image = read(fits.PrimaryHDU(IMAGE.astype(dtype)))
    assert image.dtype == np.dtype("=f4")
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, IMAGE[::-1])


def test_the_last_row_comes_first() -> None:
    assert read(fits.PrimaryHDU(np.array([[1.0], [2.0]])))[:, 0].tolist() == [2, 1]


def test_bscale_bzero_and_blank_are_applied() -> None:
    hdu = fits.PrimaryHDU(np.array([[1, 2, -999]], dtype=np.int16))
    hdu.header["BLANK"] = -999
    file = file_of(hdu).getvalue()
    # Written into the header of the raw integers: a scaled HDU would rescale the data on writing.
    blank = next(file[i : i + 80] for i in range(0, 2880, 80) if file.startswith(b"BLANK", i))
    cards = b"".join(f"{name:<8}= {value:>20}".encode().ljust(80) for name, value in (("BSCALE", 0.5), ("BZERO", 10.0)))
    file = file.replace(blank + b"END" + b" " * 237, blank + cards + b"END" + b" " * 77)
    image = decode_fits(BytesIO(file), "x.fits")
    assert image[0, :2].tolist() == [10.5, 11.0]
    assert np.isnan(image[0, 2])


@pytest.mark.parametrize(("dtype", "blank"), [("u2", -(2**15)), ("u4", -(2**31))])
@pytest.mark.parametrize("kind", [fits.PrimaryHDU, fits.CompImageHDU])
def test_blank_among_unsigned_integers(kind: type, dtype: str, blank: int) -> None:
    values = np.array([[0, 1], [2, 3]], dtype=dtype)
    hdu = kind(values)
    hdu.header["BLANK"] = blank  # as in the file, where BZERO is not added yet
    file = file_of(hdu) if kind is fits.PrimaryHDU else file_of(fits.PrimaryHDU(), hdu)
    image = decode_fits(file, "x.fits")
    np.testing.assert_array_equal(image, [[2, 3], [np.nan, 1]])


def test_values_of_64_bit_unsigned_integers() -> None:
    assert read(fits.PrimaryHDU(np.array([[0, 1, 7]], dtype=np.uint64))).tolist() == [[0, 1, 7]]


def test_an_array_of_no_pixels_is_passed_over() -> None:
    first = file_of(fits.PrimaryHDU(), fits.ImageHDU(IMAGE)).getvalue()
    cards = b"".join(f"{name:<8}= {0:>20}".encode().ljust(80) for name in ("NAXIS1", "NAXIS2"))
    naxis = first.index(b"NAXIS   =")
    head = first[:naxis] + f"{'NAXIS':<8}= {2:>20}".encode().ljust(80) + cards + first[naxis + 80 : 2880]
    np.testing.assert_array_equal(decode_fits(BytesIO(head[:2880] + first[2880:]), "x.fits"), IMAGE[::-1])


def test_nan_pixels_stay_nan() -> None:
    values = IMAGE.copy()
    values[0, 0] = np.nan
    image = read(fits.PrimaryHDU(values))
    assert np.isnan(image[-1, 0])
    assert np.isnan(image).sum() == 1


def test_a_float64_beyond_float32_becomes_infinite() -> None:
    assert read(fits.PrimaryHDU(np.array([[1e300, 1.0]]))).tolist() == [[np.inf, 1.0]]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 1, 3, 4), (3, 4)),
        ((5, 3, 4), (3, 4, 5)),
        ((1, 5, 3, 4), (3, 4, 5)),
        ((1, 1), (1, 1)),
        ((2, 1, 1), (1, 1, 2)),
        ((3, 4, 1), (3, 4)),
        ((3, 1, 4), (3, 4)),
        ((1, 3, 1, 4, 1), (3, 4)),
        ((1, 4), (1, 4)),
        ((1, 1, 4), (1, 4)),
    ],
)
def test_degenerate_axes_go_and_planes_become_channels(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    image = read(fits.PrimaryHDU(values))
    assert image.shape == expected
    plane = values.reshape(-1, *expected[:2])[-1]
    np.testing.assert_array_equal(image.reshape(*expected[:2], -1)[..., -1], plane[::-1])


@pytest.mark.parametrize("shape", [(12,), (2, 2, 3, 4)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnreadableImageError, match="neither an image nor a cube"):
        read(fits.PrimaryHDU(np.ones(shape)))


def test_a_colour_picture_with_bands_last_is_not_guessed() -> None:
    values = np.arange(8 * 6 * 3, dtype=np.float32).reshape(8, 6, 3)
    file = file_of(fits.PrimaryHDU(values)).getvalue()
    with pytest.raises(UnreadableImageError, match=r"bands of the cube \(8, 6, 3\) .*fits:FOLDER,channels=last"):
        decode_fits(BytesIO(file), "x.fits")
    np.testing.assert_array_equal(decode_fits(BytesIO(file), "x.fits", channels="last"), values[::-1])
    planes = decode_fits(BytesIO(file), "x.fits", channels="first")
    np.testing.assert_array_equal(planes, np.moveaxis(values, 0, -1)[::-1])


def test_many_planes_are_bands_whatever_their_number() -> None:
    assert read(fits.PrimaryHDU(np.zeros((30, 40, 20), dtype=np.float32))).shape == (40, 20, 30)


def test_the_first_extension_with_an_image_is_the_default() -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])
    file = file_of(fits.PrimaryHDU(), table, fits.ImageHDU(IMAGE, name="SCI"), fits.ImageHDU(-IMAGE, name="ERR"))
    np.testing.assert_array_equal(decode_fits(file, "x"), IMAGE[::-1])


@pytest.mark.parametrize("extension", ["ERR", "err", 2])
def test_an_extension_by_name_or_number(extension: str | int) -> None:
    file = file_of(fits.PrimaryHDU(), fits.ImageHDU(IMAGE, name="SCI"), fits.ImageHDU(-IMAGE, name="ERR"))
    np.testing.assert_array_equal(decode_fits(file, "x", extension), -IMAGE[::-1])


@pytest.mark.parametrize(
    ("extension", "reason"), [("FLAT", "no extension 'FLAT'"), (7, "no extension 7"), (0, "no image")]
)
def test_an_extension_without_an_image_says_so(extension: str | int, reason: str) -> None:
    file = file_of(fits.PrimaryHDU(), fits.ImageHDU(IMAGE))
    with pytest.raises(UnreadableImageError, match=reason):
        decode_fits(file, "x", extension)


def test_compressed_tiles_and_gzip_give_the_same_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 100, (32, 32)).astype(np.int16)
    tiles = file_of(fits.PrimaryHDU(), fits.CompImageHDU(image, compression_type="RICE_1"))
    zipped = BytesIO(gzip.compress(file_of(fits.PrimaryHDU(image)).getvalue()))
    for file in (tiles, zipped):
        np.testing.assert_array_equal(decode_fits(file, "x"), image[::-1])


def test_a_constant_image_is_read() -> None:
    assert np.unique(read(fits.PrimaryHDU(np.full((3, 3), 2.5)))).tolist() == [2.5]


def test_only_nan_is_unreadable() -> None:
    with pytest.raises(UnreadableImageError, match="every pixel is NaN"):
        read(fits.PrimaryHDU(np.full((3, 3), np.nan)))


def test_no_image_at_all() -> None:
    with pytest.raises(UnreadableImageError, match="no extension of the FITS file holds an image"):
        read(fits.PrimaryHDU())


def test_an_empty_file() -> None:
    with pytest.raises(UnreadableImageError, match="the file is empty"):
        decode_fits(BytesIO(), "x.fits")


@pytest.mark.parametrize("size", [100, 2880, 2900, 5000])
def test_a_truncated_file(size: int) -> None:
    whole = file_of(fits.PrimaryHDU(np.ones((40, 40), dtype=np.float64))).getvalue()
    with pytest.raises(UnreadableImageError, match="damaged"):
        decode_fits(BytesIO(whole[:size]), "x.fits")


def test_text_is_no_fits_file() -> None:
    with pytest.raises(UnreadableImageError, match="the FITS file is damaged"):
        decode_fits(BytesIO(b"not found" * 1000), "x.fits")


@pytest.mark.parametrize("extension", [None, 1])
@pytest.mark.parametrize("length", [-1, -2880, -5760, -28800])
def test_a_length_that_leads_back_ends(length: int, extension: int | None) -> None:
    """Astropy alone reads such a file for ever, and fills the memory."""
    cards = ("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 1", f"NAXIS1  = {length}", "EXTEND  = T", "END")
    header = "".join(card.ljust(80) for card in cards).ljust(2880)
    with pytest.raises(UnreadableImageError):
        decode_fits(BytesIO(header.encode() * 3), "x.fits", extension)


PLAIN = file_of(fits.PrimaryHDU(IMAGE)).getvalue()
TILED = file_of(fits.PrimaryHDU(), fits.CompImageHDU(np.arange(64, dtype=np.int16).reshape(8, 8))).getvalue()


@pytest.mark.parametrize("whole", [PLAIN, TILED, gzip.compress(PLAIN)])
@settings(max_examples=40)
@given(data=st.data())
def test_damage_never_surfaces_as_another_error(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        assert decode_fits(BytesIO(bytes(damaged)), "x").dtype == np.float32
    except UnreadableImageError as error:
        assert error.where == "x"


def test_a_too_large_image_is_refused_from_the_header() -> None:
    header = file_of(fits.PrimaryHDU(np.zeros((2, 2), dtype=np.float32))).getvalue()[:2880]
    for axis in (b"NAXIS1  =                    ", b"NAXIS2  =                    "):
        header = header.replace(axis + b"2    ", axis[:-4] + b"20000    "[:9])
    assert image_budget() < 4 * 20_000**2
    with pytest.raises(UnreadableImageError, match=r"too large: 20000 x 20000 values of 4 bytes"):
        decode_fits(BytesIO(header), "x.fits")


def test_a_large_file_is_refused_before_its_pixels_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(UnreadableImageError, match="too large: 600 x 600 values of 4 bytes exceed the limit of 1 MiB"):
        read(fits.PrimaryHDU(np.zeros((600, 600), np.uint8)))


def test_a_header_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    first = b"SIMPLE  =                    T".ljust(80)
    endless = first + b"COMMENT the end never comes".ljust(80) * 40_000
    for data in (endless, gzip.compress(endless)):
        with pytest.raises(UnreadableImageError, match=r"its headers have no end|the file is too large"):
            decode_fits(BytesIO(data), "x.fits")


def test_an_image_of_no_pixels_says_so() -> None:
    with pytest.raises(UnreadableImageError, match="no pixels, its shape is 0 x 4"):
        read(fits.PrimaryHDU(np.zeros((0, 4), np.float32)))


def test_header_and_pixels_come_from_one_hdu_of_a_compressed_file() -> None:
    file = file_of(fits.PrimaryHDU(), fits.ImageHDU(IMAGE, name="SCI"))
    assert read_header(BytesIO(gzip.compress(file.getvalue())), "x")["EXTNAME"] == "SCI"


def test_header_cards_with_tabs_do_not_warn(shared: Callable[[str], Path]) -> None:
    for path in shared("first_hdr_fits").glob("*.fits"):
        with path.open("rb") as file:
            image = decode_fits(file, path.name)
        assert image.shape == (300, 300)
        np.testing.assert_array_equal(image, fits.getdata(path)[::-1])


def test_real_rice_tiles_equal_astropys(shared: Callable[[str], Path]) -> None:
    path = min(shared("rgz_first_boxes").glob("fits/*.fz"))
    with path.open("rb") as file:
        np.testing.assert_array_equal(decode_fits(file, path.name), fits.getdata(path)[::-1])
