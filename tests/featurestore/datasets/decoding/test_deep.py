"""Pictures of more than 8 bits a channel; the oracle is the array that was encoded without loss."""

import struct
import zlib
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featurestore.datasets.budget import VARIABLE
from featurestore.datasets.decoding.images import decode_image
from featurestore.errors import UnreadableImageError
from featurestore.preprocessing import Preprocessing

RNG = np.random.default_rng(0)
NONE = np.empty((0, 4), np.float32)


def deep(*shape: int, top: int = 65535) -> np.ndarray:
    return RNG.integers(0, top, shape, dtype=np.uint16, endpoint=True)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = (struct.pack(">I", len(b)) + kind + b + struct.pack(">I", zlib.crc32(kind + b)) for kind, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_png_keeps_16_bits(shape: tuple[int, ...]) -> None:
    image = deep(*shape)
    decoded = decode_image(imagecodecs.png_encode(image), "x")
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, image)


@pytest.mark.parametrize(("n_bands", "shape"), [(2, (6, 5)), (4, (6, 5, 3))])
def test_transparency_is_composited_on_black(n_bands: int, shape: tuple[int, ...]) -> None:
    image = deep(6, 5, n_bands)
    expected = np.rint(image[..., :-1].astype(float) * image[..., -1:] / 65535).reshape(shape)
    np.testing.assert_array_equal(decode_image(imagecodecs.png_encode(image), "x"), expected)


def test_a_transparent_grey_value_is_black() -> None:
    header = struct.pack(">IIBBBBB", 3, 1, 16, 0, 0, 0, 0)
    row = zlib.compress(b"\0" + np.array([1, 500, 65535], ">u2").tobytes())
    data = png((b"IHDR", header), (b"tRNS", struct.pack(">H", 500)), (b"IDAT", row), (b"IEND", b""))
    assert decode_image(data, "x").tolist() == [[1, 0, 65535]]


def test_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image, file = deep(4, 6), BytesIO()
    Image.fromarray(image).save(file, "png", exif=exif)
    np.testing.assert_array_equal(decode_image(file.getvalue(), "x"), np.rot90(image, -1))


@pytest.mark.parametrize("shape", [(16, 17), (16, 17, 3)])
@pytest.mark.parametrize("top", [4095, 65535])
def test_jpeg_2000_keeps_its_values(shape: tuple[int, ...], top: int) -> None:
    image = deep(*shape, top=top)
    data = imagecodecs.jpeg2k_encode(image, level=0, reversible=True, bitspersample=top.bit_length())
    np.testing.assert_array_equal(decode_image(data, "x"), image)


def test_jpeg_2000_of_8_bits_is_pillow_s() -> None:
    data = imagecodecs.jpeg2k_encode(deep(16, 17, 3, top=255).astype(np.uint8))
    np.testing.assert_array_equal(decode_image(data, "x"), np.asarray(Image.open(BytesIO(data))))


@pytest.mark.parametrize("bits", [10, 12])
def test_avif_keeps_its_values(bits: int) -> None:
    image = deep(16, 16, 3, top=(1 << bits) - 1)
    data = imagecodecs.avif_encode(image, level=100, bitspersample=bits)
    np.testing.assert_array_equal(decode_image(data, "x"), image)


def test_equal_pixels_give_equal_input_in_every_format() -> None:
    image = deep(16, 16, 3)
    tiff = BytesIO()
    tifffile.imwrite(tiff, image, photometric="rgb")
    files = {
        "png": imagecodecs.png_encode(image),
        "jp2": imagecodecs.jpeg2k_encode(image, level=0, reversible=True),
        "tiff": tiff.getvalue(),
        "ppm": b"P6 16 16 65535\n" + image.astype(">u2").tobytes(),
    }
    for spec in ("resize=16", "resize=8,stretch=asinh:0.1", "resize=16,stretch=percentile:1:99,channels=mean"):
        variant = Preprocessing.parse(spec)
        expected = variant.apply(image, NONE)
        for kind, data in files.items():
            np.testing.assert_array_equal(variant.apply(decode_image(data, kind), NONE), expected, kind)


def test_too_many_pixels_are_refused_from_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = imagecodecs.png_encode(np.zeros((1024, 512, 3), np.uint16))
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(UnreadableImageError, match="too large: 1024 x 512 values"):
        decode_image(bomb, "x")


FILES = [
    imagecodecs.png_encode(deep(6, 5, 3)),
    imagecodecs.jpeg2k_encode(deep(16, 17, 3), level=0),
    imagecodecs.avif_encode(deep(16, 16, 3, top=1023), bitspersample=10),
    b"P6 4 4 65535\n" + deep(4, 4, 3).tobytes(),
]


@pytest.mark.parametrize("whole", FILES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_never_surfaces_as_another_error(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        assert decode_image(bytes(damaged), "x").dtype.name in ("uint8", "uint16", "float32")
    except UnreadableImageError as error:
        assert error.where == "x"
