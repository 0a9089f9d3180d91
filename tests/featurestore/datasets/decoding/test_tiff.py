"""The oracle is the array that tifffile, another library than the one under most TIFF files here, wrote."""

from io import BytesIO

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from featurestore.datasets.budget import VARIABLE
from featurestore.datasets.decoding.images import decode_image
from featurestore.errors import UnreadableImageError

RNG = np.random.default_rng(0)


def written(values: np.ndarray, **options: object) -> bytes:
    file = BytesIO()
    tifffile.imwrite(file, values, **{"photometric": "minisblack", **options})
    return file.getvalue()


def whole_range(dtype: str, shape: tuple[int, ...] = (6, 5)) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return RNG.normal(0, 1e4, shape).astype(kind)
    ends = np.iinfo(kind)
    values = RNG.integers(ends.min, ends.max, shape, dtype=kind, endpoint=True)
    values.flat[:2] = ends.min, ends.max
    return values


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "lzw"}], ids=str)
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_type_has_the_values_that_were_written(dtype: str, byteorder: str, options: dict[str, object]) -> None:
    values = whole_range(dtype)
    image = decode_image(written(values, byteorder=byteorder, **options), "x")
    assert image.dtype == (dtype if dtype in ("u1", "u2") else np.float32)
    np.testing.assert_array_equal(image, values.astype(image.dtype))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4"])
def test_differences_are_summed_up(dtype: str) -> None:
    values = whole_range(dtype)
    np.testing.assert_array_equal(
        decode_image(written(values, compression="zlib", predictor=True), "x"), values.astype(np.float32)
    )


def nodata(text: str) -> dict[str, object]:
    """The tag GDAL_NODATA."""
    return {"extratags": [(42113, "s", 0, text, True)]}


@pytest.mark.parametrize(("dtype", "text"), [("f4", "-9999"), ("i2", "-9999"), ("f8", "-1e300"), ("u4", "4294967295")])
def test_pixels_that_gdal_marks_as_missing_are_nan(dtype: str, text: str) -> None:
    values = np.array([[1, 2, 3], [4, 5, 6]], dtype=dtype)
    values[1, 0] = float(text)
    expected = np.array([[1, 2, 3], [np.nan, 5, 6]], np.float32)
    image = decode_image(written(values, **nodata(text)), "x")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_missing_pixels_without_a_nan_are_black(dtype: str, photometric: str) -> None:
    values = np.array([[1, 200, 3]], dtype=dtype)
    top = np.iinfo(dtype).max if photometric == "miniswhite" else 0
    image = decode_image(written(values, photometric=photometric, **nodata("200")), "x")
    assert image.dtype == dtype
    assert image.tolist() == [[abs(top - 1), 0, abs(top - 3)]]


def test_a_pixel_is_missing_where_all_of_its_bands_are() -> None:
    values = np.array([[[255, 255, 255], [255, 7, 255]]], np.uint8)
    image = decode_image(written(values, photometric="rgb", **nodata("255")), "x")
    assert image.tolist() == [[[0, 0, 0], [255, 7, 255]]]


@pytest.mark.parametrize("text", ["nan", "none", "7"])
def test_a_mark_of_missing_pixels_that_no_pixel_has(text: str) -> None:
    values = np.array([[0, 1, 2]], np.float32)
    np.testing.assert_array_equal(decode_image(written(values, **nodata(text)), "x"), values)


def test_half_floats_and_bigtiff_and_tiles() -> None:
    values = whole_range("f4", (40, 30)).astype(np.float16)
    np.testing.assert_array_equal(decode_image(written(values, bigtiff=True, tile=(16, 16)), "x"), values)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_where_0_is_white_more_is_still_brighter(dtype: str) -> None:
    values = whole_range(dtype)
    image = decode_image(written(values, photometric="miniswhite"), "x")
    np.testing.assert_array_equal(image, np.iinfo(dtype).max - values)


def test_where_0_is_white_8_bits_are_those_of_pillow() -> None:
    data = written(whole_range("u1"), photometric="miniswhite")
    np.testing.assert_array_equal(decode_image(data, "x"), np.asarray(Image.open(BytesIO(data))))


def test_a_white_zero_of_floats_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match=r"TIFF of float32 0 is white"):
        decode_image(written(whole_range("f4"), photometric="miniswhite"), "x")


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour_keeps_its_type(dtype: str, planar: str) -> None:
    values = whole_range(dtype, (6, 5, 3))
    pages = values if planar == "contig" else np.moveaxis(values, -1, 0)
    image = decode_image(written(pages, photometric="rgb", planarconfig=planar), "x")
    np.testing.assert_array_equal(image, values)


def test_12_bits_keep_their_values() -> None:
    values = RNG.integers(0, 4096, (6, 8), dtype=np.uint16)
    np.testing.assert_array_equal(decode_image(written(values, bitspersample=12), "x"), values)


def test_transparency_is_composited_on_black() -> None:
    values = whole_range("u2", (6, 5, 4))
    image = decode_image(written(values, photometric="rgb", extrasamples=["unassalpha"]), "x")
    expected = np.rint(values[..., :3].astype(float) * values[..., 3:] / 65535)
    np.testing.assert_array_equal(image, expected)


def test_a_fourth_band_of_no_stated_meaning_is_a_band() -> None:
    values = whole_range("u1", (6, 5, 4))
    image = decode_image(written(values, photometric="rgb", extrasamples=["unspecified"]), "x")
    np.testing.assert_array_equal(image, values)


@pytest.mark.parametrize("n_pages", [2, 3, 5])
def test_pages_of_one_size_are_bands(n_pages: int) -> None:
    cube = whole_range("f4", (n_pages, 6, 5))
    np.testing.assert_array_equal(decode_image(written(cube), "x"), np.moveaxis(cube, 0, -1))


def test_an_imagej_stack_is_a_cube() -> None:
    cube = whole_range("f4", (5, 6, 7))
    np.testing.assert_array_equal(decode_image(written(cube, imagej=True), "x"), np.moveaxis(cube, 0, -1))


@pytest.mark.parametrize("options", [{"truncate": True}, {"imagej": True, "truncate": True}], ids=str)
def test_images_without_a_page_of_their_own_are_not_left_out(options: dict[str, object]) -> None:
    with pytest.raises(UnreadableImageError, match="announces 5 images in 1 pages"):
        decode_image(written(whole_range("f4", (5, 6, 7)), **options), "x")


def test_pages_that_differ_are_refused() -> None:
    file = BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        for shape in ((6, 5), (3, 2)):
            tiff.write(np.zeros(shape, np.uint8), photometric="minisblack")
    with pytest.raises(UnreadableImageError, match=r"2 pages that differ in size or type \(6 x 5, 3 x 2\), not one"):
        decode_image(file.getvalue(), "x")


def test_pages_in_colour_are_refused() -> None:
    with pytest.raises(UnreadableImageError, match="2 pages of 3 bands each, not one image"):
        decode_image(written(whole_range("u1", (2, 6, 5, 3)), photometric="rgb"), "x")
    pages = [Image.new("P", (4, 4), number) for number in (1, 2)]
    file = BytesIO()
    pages[0].save(file, "tiff", save_all=True, append_images=pages[1:])
    with pytest.raises(UnreadableImageError, match="2 pages in colour"):
        decode_image(file.getvalue(), "x")


def test_smaller_copies_are_no_pages() -> None:
    values, file = whole_range("u2", (8, 6)), BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(values, photometric="minisblack")
        tiff.write(values[::2, ::2], photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(decode_image(file.getvalue(), "x"), values)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_pillow(orientation: int) -> None:
    values = whole_range("u1", (4, 6))
    tagged = written(values.astype(np.uint16), extratags=[(274, 3, 1, orientation, True)])
    shown = Image.fromarray(values)
    shown.getexif()[274] = orientation
    np.testing.assert_array_equal(decode_image(tagged, "x"), np.asarray(ImageOps.exif_transpose(shown)))


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(UnreadableImageError, match="pixels are complex64, which are not real numbers"):
        decode_image(written(np.ones((2, 2), np.complex64)), "x")


def test_too_many_pixels_are_refused_from_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = written(np.zeros((2048, 2048), np.uint8), compression="zlib")
    assert len(bomb) < 100_000
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(UnreadableImageError, match=r"too large: 1 x 2048 x 2048 values"):
        decode_image(bomb, "x")


FILES = [
    written(whole_range("u2")),
    written(whole_range("f4", (3, 6, 5)), compression="zlib"),
    written(whole_range("u1", (6, 5, 3)), photometric="rgb", compression="lzw"),
    written(whole_range("u2", (40, 30)), tile=(16, 16), compression="zlib", predictor=True),
]


@pytest.mark.parametrize("whole", FILES)
def test_a_file_cut_anywhere_is_whole_or_unreadable(whole: bytes) -> None:
    expected = decode_image(whole, "x")
    for size in range(0, len(whole), 7):
        try:
            np.testing.assert_array_equal(decode_image(whole[:size], "x"), expected)
        except UnreadableImageError as error:
            assert error.where == "x"


@pytest.mark.parametrize("whole", FILES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_never_surfaces_as_another_error(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        assert decode_image(bytes(damaged), "x").dtype.name in ("uint8", "uint16", "float32")
    except UnreadableImageError as error:
        assert error.where == "x"


@pytest.mark.parametrize("photometric", ["separated", "cielab", "palette"])
def test_deep_colours_that_pillow_would_cut_are_unreadable(photometric: str) -> None:
    values = whole_range("u2", (6, 5) if photometric == "palette" else (6, 5, 4 if photometric == "separated" else 3))
    colours = {"colormap": np.zeros((3, 1 << 16), np.uint16)} if photometric == "palette" else {}
    with pytest.raises(UnreadableImageError, match=f"16-bit {photometric.upper()} is not read"):
        decode_image(written(values, photometric=photometric, **colours), "x")
