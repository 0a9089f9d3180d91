"""Row checks: a CRC-32C over each row and its place, so that bytes that are intact but lie elsewhere are found.

The checksum of a chunk says that its bytes are whole, not that they belong where they lie. A row check covers the path
of the array, the number of the row, the sample and the values; it is stored beside the state of the row.
"""

from __future__ import annotations

from typing import Any, cast

import google_crc32c
import numpy as np
from numpy.typing import NDArray

UNCHECKED = 0
"""Check of a row that has none: it was not written yet, or before there were checks. No row has it."""

Checks = NDArray[np.uint32]


def compute_checks(path: str, rows: NDArray[np.int64], samples: NDArray[np.uint64], *columns: NDArray[Any]) -> Checks:
    """The checks of some rows, uint32 (k,), none of which is `UNCHECKED`.

    Args:
        path: Path of the place below the root of the store: of a pooling, or of a key for its columns.
        rows: int64 (k,), store row of each.
        samples: uint64 (k,), hash of the sample id of each.
        columns: Arrays (k, ...) of what is stored of them, in their storage types.
    """
    start = google_crc32c.value(path.encode())
    parts = (rows.astype("<i8"), samples.astype("<u8"), *columns)
    matrix = np.concatenate([_bytes_of(part) for part in parts], axis=1)
    checks = [google_crc32c.extend(start, cast("bytes", row)) or 1 for row in matrix]  # any buffer will do
    return np.array(checks, dtype=np.uint32)


def _bytes_of(values: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 (k, bytes of a row)."""
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(values), -1) if len(values) else np.zeros((0, 0), np.uint8)
