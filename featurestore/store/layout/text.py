"""Text in arrays: UTF-8 in a uint8 matrix, one row a string, padded with zero bytes; any Zarr reader understands it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def encode_text(texts: Sequence[str], width: int | None = None) -> NDArray[np.uint8]:
    """uint8 (n, width); without a width, as wide as the longest string.

    A string longer than `width` bytes is cut at a character.
    """
    encoded = [text.encode() for text in texts]
    if width is None:
        width = max(map(len, encoded), default=1) or 1
    else:
        encoded = [_cut(text, width) for text in encoded]
    return np.array(encoded, dtype=f"S{width}").view(np.uint8).reshape(len(encoded), width)


def decode_text(matrix: NDArray[np.uint8]) -> list[str]:
    """The strings that `encode_text` turned into `matrix`."""
    rows, width = matrix.shape
    return [text.decode() for text in np.ascontiguousarray(matrix).view(f"S{width}").reshape(rows).tolist()]


def _cut(text: bytes, width: int) -> bytes:
    return text if len(text) <= width else text[:width].decode(errors="ignore").encode()
