from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from featurestore.datasets.budget import VARIABLE
from featurestore.datasets.decoding.images import decode_image, digest_of, digest_of_picture, digest_of_pixels
from featurestore.errors import UnreadableImageError

Encode = Callable[..., bytes]
RGB = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def png_of_zeros(width: int, height: int, *, whole: bool) -> bytes:
    """A 1-bit PNG; without `whole` it ends after a few bytes of pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    row = bytes(1 + (width + 7) // 8)
    pixels = zlib.compress(row * (height if whole else 1), 1)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("image", [GREY, RGB])
@pytest.mark.parametrize("kind", ["png", "tiff", "bmp"])
def test_lossless_8_bit_files_come_back(encode: Encode, image: np.ndarray, kind: str) -> None:
    decoded = decode_image(encode(image, kind), "x")
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, image)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bit_grey_stays_uint16(encode: Encode, kind: str) -> None:
    image = np.arange(0, 65536, 2048, dtype=np.uint16).reshape(4, 8)
    decoded = decode_image(encode(image, kind), "x")
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, image)


def test_big_endian_16_bit_becomes_native(encode: Encode) -> None:
    image = Image.frombytes("I;16B", (2, 1), b"\x01\x00\x00\x02")
    decoded = decode_image(encode(image, "tiff"), "x")
    assert decoded.dtype == np.uint16
    assert decoded.tolist() == [[256, 2]]


def test_float_tiff_stays_float32(encode: Encode) -> None:
    image = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    decoded = decode_image(encode(image, "tiff"), "x")
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, image)


def test_integer_tiff_becomes_float32(encode: Encode) -> None:
    decoded = decode_image(encode(np.array([[-70000, 70000]], dtype=np.int32), "tiff"), "x")
    assert decoded.dtype == np.float32
    assert decoded.tolist() == [[-70000.0, 70000.0]]


def test_palette_becomes_rgb(encode: Encode) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert decode_image(encode(image), "x").tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_1_bit_becomes_grey(encode: Encode) -> None:
    assert decode_image(encode(Image.fromarray(np.array([[True, False]]))), "x").tolist() == [[255, 0]]


def test_cmyk_becomes_rgb(encode: Encode) -> None:
    decoded = decode_image(encode(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "tiff"), "x")
    assert decoded.tolist() == [[[255, 0, 0]]]


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("RGBA", (200, 100, 50, 255), [200, 100, 50]),
        ("RGBA", (200, 100, 50, 0), [0, 0, 0]),
        ("RGBA", (200, 100, 50, 51), [40, 20, 10]),
        ("LA", (200, 51), [40, 40, 40]),
    ],
)
def test_alpha_is_composited_on_black(encode: Encode, mode: str, pixel: tuple[int, ...], expected: list[int]) -> None:
    assert decode_image(encode(Image.new(mode, (1, 1), pixel)), "x").tolist() == [[expected]]


def test_a_transparent_palette_entry_is_black(encode: Encode) -> None:
    image = Image.new("P", (1, 1))
    image.putpalette([200, 100, 50])
    assert decode_image(encode(image, transparency=bytes([0])), "x").tolist() == [[[0, 0, 0]]]


def test_exif_orientation_is_applied(encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row of the file is the right edge
    np.testing.assert_array_equal(decode_image(encode(RGB, exif=exif), "x"), np.rot90(RGB, -1))


@pytest.mark.parametrize("shape", [(61, 47, 3), (61, 47), (1, 1, 3), (8, 200, 3)])
@pytest.mark.parametrize("options", [{}, {"quality": 30}, {"subsampling": 0}, {"progressive": True}], ids=str)
def test_jpeg_pixels_are_those_of_pillow(encode: Encode, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = encode(noise, "jpeg", **options)
    np.testing.assert_array_equal(decode_image(data, "x"), np.asarray(Image.open(BytesIO(data))))


def test_a_jpeg_in_cmyk_becomes_rgb(encode: Encode) -> None:
    data = encode(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "jpeg", quality=100)
    np.testing.assert_allclose(decode_image(data, "x")[4, 4], [255, 0, 0], atol=3)


def test_a_jpeg_with_an_oddity_that_pillow_accepts_is_read(encode: Encode) -> None:
    data = encode(RGB, "jpeg")
    odd = data[:-2] + b"\x00\x11\x22" + data[-2:]  # bytes in front of the end marker
    np.testing.assert_array_equal(decode_image(odd, "x"), np.asarray(Image.open(BytesIO(odd))))


def test_first_frame_of_an_animation(encode: Encode) -> None:
    frames = [Image.new("L", (3, 2), value) for value in (10, 200)]
    decoded = decode_image(encode(frames[0], "gif", save_all=True, append_images=frames[1:]), "x")
    assert np.unique(decoded).tolist() == [10]


def test_1_x_1(encode: Encode) -> None:
    assert decode_image(encode(np.array([[7]], dtype=np.uint8)), "x").tolist() == [[7]]


def test_an_empty_file_says_so() -> None:
    with pytest.raises(UnreadableImageError, match=r"the file is empty \[a\.png\]"):
        decode_image(b"", "a.png")


def test_text_is_no_image() -> None:
    with pytest.raises(UnreadableImageError, match="not a picture of a known format"):
        decode_image(b"<html>not found</html>", "a.png")


def test_postscript_starts_no_program(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(RGB, "eps")
    monkeypatch.setattr("subprocess.Popen", lambda *_: pytest.fail("a program was started"))
    with pytest.raises(UnreadableImageError, match="not a picture of a known format"):
        decode_image(data, "x.png")


def test_a_small_file_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("the pixels were decoded"))
    with pytest.raises(
        UnreadableImageError, match="too large: 2000 x 1000 values of 1 bytes exceed the limit of 1 MiB"
    ):
        decode_image(png_of_zeros(1_000, 2_000, whole=True), "x.png")


def test_an_image_that_memory_is_too_small_for_is_unreadable(encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UnreadableImageError, match="damaged: there is not enough memory"):
        decode_image(encode(RGB), "x.png")


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp"])
def test_a_truncated_file_says_so(encode: Encode, kind: str) -> None:
    data = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), kind)
    with pytest.raises(UnreadableImageError, match=r"damaged: \w|no image"):
        decode_image(data[: len(data) // 2], "a")


def test_20_000_pixels_a_side_are_refused_from_the_header() -> None:
    with pytest.raises(UnreadableImageError, match=r"too large.*400000000 pixels"):
        decode_image(png_of_zeros(20_000, 20_000, whole=False), "a.png")


def test_a_large_image_below_the_limit_is_read_without_a_warning() -> None:
    limit, data = Image.MAX_IMAGE_PIXELS, png_of_zeros(10_000, 9_000, whole=True)
    assert limit is not None
    assert limit < 10_000 * 9_000  # Pillow would warn; warnings are errors in these tests
    assert decode_image(data, "a.png").shape == (9_000, 10_000)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "gif", "webp"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_surfaces_as_another_error(encode: Encode, kind: str, data: st.DataObject) -> None:
    damaged = bytearray(encode(RGB, kind))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(damaged)))
    try:
        assert decode_image(bytes(damaged[:end]), "x").ndim in (2, 3)
    except UnreadableImageError as error:
        assert error.where == "x"


def test_threads_decode_alike(encode: Encode) -> None:
    files = [encode(np.full((9, 9), value, dtype=np.uint8)) for value in range(100)]
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda data: decode_image(data, "x"), files))
    assert [int(image[0, 0]) for image in decoded] == list(range(100))


def test_digest_is_blake2b_128() -> None:
    assert digest_of(b"sky") == blake2b(b"sky", digest_size=16).digest()


@pytest.mark.parametrize(
    ("values", "kind", "of_file"),
    [(RGB, "png", True), (RGB, "tiff", False), (GREY.astype(np.uint16), "png", False), (RGB, "jpeg", True)],
)
def test_pictures_that_older_versions_read_otherwise_are_known_by_their_pixels(encode, values, kind, of_file) -> None:
    data = encode(values, kind)
    image = decode_image(data, "x")
    assert digest_of_picture(data, image) == (digest_of(data) if of_file else digest_of_pixels(image))


def test_digest_of_pixels_sees_shape_dtype_and_values() -> None:
    image = np.zeros((2, 3), dtype=np.uint8)
    others = [image.reshape(3, 2), image.astype(np.int8), image + np.uint8(1)]
    digests = {digest_of_pixels(one) for one in (image, *others)}
    assert len(digests) == 4
    assert all(len(digest) == 16 for digest in digests)
    assert digest_of_pixels(image[:, ::-1]) == digest_of_pixels(image.copy())
