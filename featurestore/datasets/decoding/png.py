"""PNG files whose compressed pixels end too early: Pillow reads zeros in the place of what is missing."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from featurestore.datasets.boundary import unreadable

_START = 8
"""Bytes before the first chunk."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type -> samples a pixel."""

_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes of an image, and of an interlaced one: first column and row, and steps (PNG specification, section 8.2)."""

_STEP = 1 << 20


def check_length(data: bytes, where: str) -> None:
    """Refuse a PNG whose compressed data hold fewer bytes than its pixels take.

    Args:
        data: The file; its chunks are whole.
        where: Path or name, for messages.

    Raises:
        UnreadableImageError: The message gives both numbers.
    """
    wanted, found = _count_wanted(data), 0
    stream = zlib.decompressobj()
    for part in _compressed(data):
        rest = part
        while rest and found < wanted and not stream.eof:
            found += len(stream.decompress(rest, _STEP))
            rest = stream.unconsumed_tail
    while found < wanted and (more := stream.decompress(stream.unconsumed_tail, _STEP)):
        found += len(more)
    if found < wanted:
        raise unreadable(f"the image is damaged: {found:,} bytes of pixels where its header says {wanted:,}", where)


def _compressed(data: bytes) -> Iterator[bytes]:
    """Contents of the chunks IDAT."""
    start = _START
    while start + 8 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        if data[start + 4 : start + 8] == b"IDAT":
            yield data[start + 8 : start + 8 + length]
        start += 12 + length


def _count_wanted(data: bytes) -> int:
    """Bytes that all rows take before compression, each with its filter."""
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    bits, colour, interlaced = data[24], data[25], data[28]
    total = 0
    for x, y, across, down in _ADAM7 if interlaced else _WHOLE:
        columns, rows = -(-(width - x) // across), -(-(height - y) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits * _SAMPLES[colour] // 8))
    return total
