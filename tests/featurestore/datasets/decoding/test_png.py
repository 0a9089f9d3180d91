from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagecodecs import PngError, png_decode

from featurestore.datasets.decoding.images import decode_image
from featurestore.datasets.decoding.png import check_length
from featurestore.errors import UnreadableImageError


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(pixels: bytes, *, size=(5, 4), bits=8, colour=0, interlaced=0, parts=1) -> bytes:
    packed = zlib.compress(pixels)
    step = -(-len(packed) // parts)
    data = b"".join(chunk(b"IDAT", packed[start : start + step]) for start in range(0, len(packed), step))
    palette = chunk(b"PLTE", bytes(range(3))) if colour == 3 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + palette + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour", "bits"), [(0, 8), (0, 1), (2, 8), (3, 4), (6, 8)])
def test_a_complete_stream_of_too_few_rows_is_refused(colour: int, bits: int) -> None:
    row = bytes(1 + -(-5 * bits * {2: 3, 6: 4}.get(colour, 1) // 8))
    assert decode_image(png(4 * row, colour=colour, bits=bits), "x").shape[:2] == (4, 5)
    with pytest.raises(UnreadableImageError, match=r"damaged: \d+ bytes of pixels where its header says \d+ \[x\]"):
        decode_image(png(2 * row, colour=colour, bits=bits), "x")


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    kind=st.sampled_from([(0, 1), (0, 2), (0, 8), (2, 8), (3, 2), (4, 8), (6, 8)]),
    interlaced=st.booleans(),
    missing=st.integers(0, 3),
    parts=st.integers(1, 3),
)
def test_lengths_are_those_of_libpng(size, kind, interlaced, missing, parts) -> None:
    colour, bits = kind
    samples = {2: 3, 4: 2, 6: 4}.get(colour, 1)
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    grid = np.zeros(size[::-1], np.uint8)
    shapes = [grid[y::down, x::across].shape for x, y, across, down in (passes if interlaced else [(0, 0, 1, 1)])]
    total = sum(rows * (1 + -(-columns * bits * samples // 8)) for rows, columns in shapes if rows * columns)
    data = png(bytes(max(0, total - missing)), size=size, bits=bits, colour=colour, interlaced=interlaced, parts=parts)
    try:
        png_decode(data)
    except PngError:
        with pytest.raises(UnreadableImageError):
            check_length(data, "x")
    else:
        check_length(data, "x")


def test_a_stream_that_inflates_a_thousandfold_is_counted_in_steps() -> None:
    height = 3_000_000
    check_length(png(bytes(2 * height), size=(1, height)), "x")
    with pytest.raises(UnreadableImageError, match="5,999,999 bytes of pixels where its header says 6,000,000"):
        check_length(png(bytes(2 * height - 1), size=(1, height)), "x")


def test_interlaced_pictures_are_counted_even_where_the_last_row_is_bright() -> None:
    from PIL import Image

    file = BytesIO()
    Image.fromarray(np.full((9, 9), 200, np.uint8)).save(file, "png")
    assert (decode_image(file.getvalue(), "x") == 200).all()
    first = bytes([0, 200, 200])  # the first pass alone: columns 0 and 8 of rows 0 and 8
    with pytest.raises(UnreadableImageError, match="6 bytes of pixels"):
        decode_image(png(2 * first, size=(9, 9), interlaced=1), "x")
