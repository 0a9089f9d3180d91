"""KeyArrays: the arrays below one key of a store, and what they look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from featurestore.store.layout.blocked_array import BlockedArray
from featurestore.store.layout.storage import Storage

MISSING, DONE, UNREADABLE = 0, 1, 2
"""State of a row in one pooling."""

CONTENT_BYTES = 16
REASON_BYTES = 160

_COLUMNS: dict[str, tuple[str, int | None]] = {
    "content": ("uint8", CONTENT_BYTES),
    "stamp": ("uint64", None),
    "sample_hash": ("uint64", None),
    "reason": ("uint8", REASON_BYTES),
}
"""Arrays that all poolings of a key share: dtype, and bytes of a row for those that have two dimensions."""

COLUMNS = tuple(_COLUMNS)

Shapes = Mapping[str, tuple[int, ...]]
"""Pooling -> shape of one sample's features: (D,), or (h, w, D) of dense ones."""

CHUNK_BYTES = 64 * 2**20
"""A chunk of values is as many rows of a block as this has room for, the block halved until they fit."""

_DIMENSIONS = ("y", "x", "feature")
"""Names of the dimensions of values, from the last one."""


def read_shapes(attribute: Iterable[tuple[str, int | list[int]]]) -> dict[str, tuple[int, ...]]:
    """The attribute ``poolings`` of a key: pairs of a name and a number of features, or a shape."""
    return {name: (shape,) if isinstance(shape, int) else tuple(shape) for name, shape in attribute}


def write_shapes(shapes: Shapes) -> list[list[Any]]:
    """The inverse of `read_shapes`."""
    return [[name, shape[0] if len(shape) == 1 else list(shape)] for name, shape in shapes.items()]


def chunk_rows(block_rows: int, row_bytes: int) -> int:
    """Rows of a chunk: a block, halved while it is even and more than `CHUNK_BYTES`."""
    rows = block_rows
    while rows % 2 == 0 and rows * row_bytes > CHUNK_BYTES:
        rows //= 2
    return rows


class KeyArrays:
    """Arrays of one group ``features/DATASET/VARIANT/BACKBONE/KEY12``, opened when first used.

    Args:
        storage: Where they stand.
        path: Path of the group.
    """

    def __init__(self, storage: Storage, path: str) -> None:
        self.storage = storage
        self.path = path
        self._opened: dict[str, BlockedArray] = {}

    def values(self, pooling: str) -> BlockedArray:
        """(n, d) or (n, h, w, d) values, NaN where a row is not done."""
        return self._open(f"{pooling}/values", self.column("stamp").block_rows)

    def state(self, pooling: str) -> BlockedArray:
        """uint8 (n,) states."""
        return self._open(f"{pooling}/state")

    def column(self, name: str) -> BlockedArray:
        """One of `COLUMNS`."""
        return self._open(name)

    def all(self, poolings: Iterable[str]) -> list[BlockedArray]:
        """All arrays; states come first."""
        names = list(poolings)
        states, values = [self.state(name) for name in names], [self.values(name) for name in names]
        return states + [self.column(name) for name in COLUMNS] + values

    def create(self, shapes: Shapes, dtype: str, rows: int, block_rows: int) -> None:
        """Make what does not exist yet, and room for `rows` rows; states, which vouch for the others, come last."""
        for name, (kind, width) in _COLUMNS.items():
            tail = {} if width is None else {f"{name}_byte": width}
            self._require(name, kind, rows, block_rows, tail)
        for pooling, shape in shapes.items():
            size = chunk_rows(block_rows, prod(shape) * np.dtype(dtype).itemsize)
            tail = dict(zip(_DIMENSIONS[-len(shape) :], shape, strict=True))
            self._require(f"{pooling}/values", dtype, rows, size, tail, fill_value=float("nan"))
            self._require(f"{pooling}/state", "uint8", rows, block_rows, {})

    def _require(
        self,
        name: str,
        dtype: str,
        rows: int,
        chunk_rows: int,
        tail: Mapping[str, int],
        *,
        fill_value: float = 0,
    ) -> None:
        """Make an array whose dimensions after the first have these names and sizes."""
        sizes, names = tuple(tail.values()), ("sample", *tail)
        path = f"{self.path}/{name}"
        self.storage.require_array(path, (rows, *sizes), dtype, (chunk_rows, *sizes), names, fill_value)
        BlockedArray(self.storage, path).grow(rows)

    def _open(self, name: str, block_rows: int | None = None) -> BlockedArray:
        if name not in self._opened:
            self._opened[name] = BlockedArray(self.storage, f"{self.path}/{name}", block_rows)
        return self._opened[name]
