"""KeyArrays: the arrays below one key of a store, and what they look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from featurestore.errors import CorruptStoreError
from featurestore.store.layout.blocked_array import BlockedArray
from featurestore.store.layout.storage import ArraySpec, Storage

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

CHECK = "check"
"""Array of row checks, of the columns and of each pooling; keys that were made before there were any lack it."""

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


def array_specs(shapes: Shapes, dtype: str, block_rows: int) -> dict[str, ArraySpec]:
    """Path below the key -> what the array looks like; states, which vouch for the others, come last."""
    specs = {
        name: ArraySpec(kind, (block_rows,), ("sample",))
        if width is None
        else ArraySpec(kind, (block_rows, width), ("sample", f"{name}_byte"))
        for name, (kind, width) in _COLUMNS.items()
    }
    specs[CHECK] = ArraySpec("uint32", (block_rows,), ("sample",))
    for pooling, shape in shapes.items():
        size = chunk_rows(block_rows, prod(shape) * np.dtype(dtype).itemsize)
        dimensions = ("sample", *_DIMENSIONS[-len(shape) :])
        specs[f"{pooling}/values"] = ArraySpec(dtype, (size, *shape), dimensions, float("nan"))
        specs[f"{pooling}/{CHECK}"] = ArraySpec("uint32", (block_rows,), ("sample",))
        specs[f"{pooling}/state"] = ArraySpec("uint8", (block_rows,), ("sample",))
    return specs


def recover_block_rows(storage: Storage, path: str, levels: Iterable[str]) -> int | None:
    """Rows of a block, as the chunks of any features have it; None where there are none that can be understood.

    Args:
        storage: Where they are.
        path: Path of a group above the keys.
        levels: What the groups between it and the arrays are.
    """
    paths = [path]
    for _ in levels:
        paths = [f"{above}/{child}" for above in paths for child in storage.children(above)]
    for key in paths:
        try:
            array = storage.array(f"{key}/stamp")
        except CorruptStoreError:
            continue
        if array is not None:
            return int(array.chunks[0])
    return None


class KeyArrays:
    """Arrays of one group ``features/DATASET/VARIANT/BACKBONE/KEY12``, opened when first used.

    Args:
        storage: Where they are.
        path: Path of the group.
        block_rows: Rows of a block, as the root of the store has it.
    """

    def __init__(self, storage: Storage, path: str, block_rows: int) -> None:
        self.storage = storage
        self.path = path
        self.block_rows = block_rows
        self._opened: dict[str, BlockedArray] = {}

    def values(self, pooling: str) -> BlockedArray:
        """(n, d) or (n, h, w, d) values, NaN where a row is not done."""
        return self._open(f"{pooling}/values")

    def state(self, pooling: str) -> BlockedArray:
        """uint8 (n,) states."""
        return self._open(f"{pooling}/state")

    def column(self, name: str) -> BlockedArray:
        """One of `COLUMNS`."""
        return self._open(name)

    def check(self, pooling: str | None = None) -> BlockedArray | None:
        """uint32 (n,) row checks of a pooling, of the columns for None; None where the key has none."""
        name = CHECK if pooling is None else f"{pooling}/{CHECK}"
        return self._open(name) if name in self._opened or self.storage.array(f"{self.path}/{name}") else None

    def place(self, pooling: str | None = None) -> str:
        """The place that row checks vouch for."""
        return self.path if pooling is None else f"{self.path}/{pooling}"

    def all(self, poolings: Iterable[str]) -> list[BlockedArray]:
        """All arrays; states come first."""
        names = list(poolings)
        states, values = [self.state(name) for name in names], [self.values(name) for name in names]
        checks = [check for name in (None, *names) if (check := self.check(name))]
        return states + [self.column(name) for name in COLUMNS] + checks + values

    def create(self, shapes: Shapes, dtype: str, rows: int) -> None:
        """Make what does not exist yet, metadata that is lost or unreadable included, and room for `rows` rows."""
        for name, spec in array_specs(shapes, dtype, self.block_rows).items():
            self.storage.require_array(f"{self.path}/{name}", spec.shape(rows), *spec)
            self._open(name).grow(rows)

    def _open(self, name: str) -> BlockedArray:
        if name not in self._opened:
            blocked = BlockedArray(self.storage, f"{self.path}/{name}", self.block_rows)
            if self.block_rows % blocked.chunk_rows:
                raise CorruptStoreError(
                    f"its chunks have {blocked.chunk_rows} rows, and a block of this store has {self.block_rows}",
                    where=self.storage.where(blocked.path),
                    hint="Restore block_rows in the attributes of the dataset's zarr.json, or the chunks of the array.",
                )
            self._opened[name] = blocked
        return self._opened[name]
