"""Neighbours of feature rows with exact distances, found block by block."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from probes.diagnostics.sampling import BLOCK_ROWS, Floats
from probes.heads.knn import nearest_rows

Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]


def nearest_distances(rows: Floats, k: int) -> Doubles:
    """Euclidean distances of each row (n, d) to its k nearest other rows, ascending, float64 (n, k).

    A matrix product finds the neighbours; the distances are those of the differences, which the product would round.
    """
    if k < 1:
        return np.empty((len(rows), 0))
    neighbours = nearest_rows(rows, rows, k, skip_own=True)
    found = np.empty((len(rows), k))
    for start in range(0, len(rows), BLOCK_ROWS):
        span = slice(start, start + BLOCK_ROWS)
        for column in range(k):
            found[span, column] = row_distances(rows[span], rows[neighbours[span, column]])
    return np.sort(found, axis=1)


def row_distances(first: Floats, second: Floats) -> Doubles:
    """Euclidean distances between rows of two matrices (n, d), float64 (n,)."""
    return np.asarray(np.linalg.norm(first.astype(np.float64) - second, axis=1))


def distinct_rows(values: Floats) -> tuple[Indices, Indices]:
    """The first of each kind of equal rows, in order, and for each row the place of its kind among them."""
    return distinct_digests(digest_rows(values))


def digest_rows(values: Floats) -> NDArray[np.bytes_]:
    """A digest of each row (n, d): equal for equal rows; 16 bytes (n,)."""
    rows = np.ascontiguousarray(values + np.float32(0))  # -0 becomes 0
    return np.array([blake2b(row.data, digest_size=16).hexdigest() for row in rows], dtype="S32")


def distinct_digests(digests: NDArray[np.bytes_]) -> tuple[Indices, Indices]:
    """`distinct_rows` from digests (n,)."""
    _, first, kind = np.unique(digests, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return np.sort(first), place[kind]
