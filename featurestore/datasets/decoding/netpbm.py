"""PGM and PPM files of more than 8 bits, with the values that were written; Pillow would scale or cut them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.boundary import unreadable
from featurestore.datasets.budget import check_size
from featurestore.datasets.decoding.quiet import ignored_warnings

_SPACE = rb"(?:[ \t\n\v\f\r]|#[^\n\r]*[\n\r])"
_HEADER = re.compile(
    rb"P(?P<kind>[2356])" + rb"".join(rb"%b+(?P<%b>\d{1,9})" % (_SPACE, name) for name in (b"width", b"height", b"top"))
    + rb"[ \t\n\v\f\r]"
)  # fmt: skip
_TEXT, _COLOUR = "23", "36"
_PIECE = 1 << 24
"""Bytes of text that are read at a time."""


def decode_netpbm(data: bytes, where: str) -> NDArray[np.uint16] | None:
    """The first image of a PGM or PPM file.

    Returns:
        uint16 (H, W) or (H, W, 3); None: the file is something else, or its largest value fits 8 bits.

    Raises:
        UnreadableImageError: A largest value beyond 65535, fewer pixels than announced, values beyond the largest, or
            more than the budget of an image.
    """
    header = _HEADER.match(data)
    if header is None or int(header["top"]) <= 255:
        return None
    kind, width, height, top = header["kind"].decode(), int(header["width"]), int(header["height"]), int(header["top"])
    if top > 65535:
        raise unreadable(f"its largest value {top} is beyond 16 bits", where)
    shape = (height, width, 3) if kind in _COLOUR else (height, width)
    check_size(shape, 8 if kind in _TEXT else 2, where)  # text is read as int64
    size = int(np.prod(shape))
    values = _read_text(data[header.end() :], size) if kind in _TEXT else _read_binary(data, header.end(), size)
    if values.size < size or values.min() < 0 or values.max() > top:
        raise unreadable("the image is damaged: it has fewer pixels than its header says, or values beyond it", where)
    return values.astype(np.uint16).reshape(shape)


def _read_binary(data: bytes, start: int, size: int) -> NDArray[Any]:
    return np.frombuffer(data, ">u2", count=min(size, (len(data) - start) // 2), offset=start)


def _read_text(text: bytes, size: int) -> NDArray[Any]:
    """The first values of a text that may hold far more of them than the image has."""
    parts, start = [np.empty(0, dtype=np.int64)], 0
    while size > 0 and start < len(text):
        end = _next_space(text, start + _PIECE)
        with ignored_warnings():  # older versions of numpy warn of what is not a number, and give fewer values
            parts.append(np.fromstring(text[start:end], dtype=np.int64, sep=" ")[:size])
        size, start = size - len(parts[-1]), end
    return np.concatenate(parts)


def _next_space(text: bytes, start: int) -> int:
    space = re.compile(rb"\s").search(text, start)
    return space.start() if space else len(text)
