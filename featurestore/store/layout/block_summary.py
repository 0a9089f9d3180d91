"""Summaries of blocks: which blocks are complete, and from what, a thousand of them in one chunk.

A summary is a cache. It speaks only of blocks all of whose rows are done or unreadable, so that filling a store never
makes it wrong. Before a complete block is changed, its number is put among the withdrawn ones, and stays there:
whatever a summary says of such a block, then or later, counts for nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError
from featurestore.store.layout.blocked_array import BlockedArray
from featurestore.store.layout.key_arrays import UNREADABLE
from featurestore.store.layout.storage import Storage

SUMMARY, WITHDRAWN = "summary", "withdrawn"
"""Array of a pooling, and group of a key: one empty group for each block that was withdrawn."""

GROUP = 1000
"""Blocks of a chunk."""

FIRST_BLOCKS = 64
"""Features with fewer blocks have no summary: their states are as quickly read."""

_FIELDS = 4


class Summary(NamedTuple):
    """What is known of blocks without reading them.

    Attributes:
        complete: bool (blocks,), whether every row is done or unreadable; False also where that is not known.
        unreadable: uint64 (blocks,), unreadable rows.
        stamps: uint64 (blocks,), digest of the fingerprints of the images that the rows were computed from.
        states: uint64 (blocks,), digest of the states.
    """

    complete: NDArray[np.bool_]
    unreadable: NDArray[np.uint64]
    stamps: NDArray[np.uint64]
    states: NDArray[np.uint64]


def digest_rows(values: NDArray[np.generic]) -> int:
    """64-bit digest of some rows."""
    raw = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).view(np.uint8)
    return int.from_bytes(hashlib.blake2b(raw.data, digest_size=8).digest(), "little")


class BlockSummary:
    """The summary of one pooling.

    Args:
        storage: Where it is.
        key: Path of the key.
        pooling: Name of the pooling.
        sizes: int64 (blocks,), rows of each block.
    """

    def __init__(self, storage: Storage, key: str, pooling: str, sizes: NDArray[np.int64]) -> None:
        self._storage, self._key, self._sizes = storage, key, sizes
        self._path = f"{key}/{pooling}/{SUMMARY}"

    def read(self) -> Summary:
        """What it says of blocks that were never withdrawn; nothing of a damaged chunk."""
        table = self._read_table()
        for block in list_withdrawn(self._storage, self._key):
            table[block : block + 1] = 0
        known = (table[:, 0].astype(np.int64) == self._sizes) & (self._sizes > 0)
        return Summary(known, *table.T[1:])

    def note(self, complete: Mapping[int, tuple[NDArray[np.uint8], NDArray[np.uint64]]]) -> None:
        """Add complete blocks, by the states and fingerprints of their rows."""
        array = self._require()
        for group in sorted({block // GROUP for block in complete}):
            table = self._read_group(array, group)
            for block, (state, stamp) in complete.items():
                if block // GROUP == group:
                    unreadable = int((state == UNREADABLE).sum())
                    table[block % GROUP] = len(state), unreadable, digest_rows(stamp), digest_rows(state)
            array.write_block(group, table)

    def forget(self) -> None:
        """Delete the summary, to be made anew."""
        self._storage.delete(self._path)

    def _read_table(self) -> NDArray[np.uint64]:
        table = np.zeros((len(self._sizes), _FIELDS), dtype=np.uint64)
        try:
            array = BlockedArray(self._storage, self._path)
        except CorruptStoreError:
            return table
        for group in range(min(array.n_blocks, -(-len(table) // GROUP))):
            part = table[group * GROUP : (group + 1) * GROUP]
            rows = self._read_group(array, group)[: len(part)]
            part[: len(rows)] = rows
        return table

    @staticmethod
    def _read_group(array: BlockedArray, group: int) -> NDArray[np.uint64]:
        try:
            return array.read_block(group)
        except CorruptStoreError:
            return array.fill(GROUP)

    def _require(self) -> BlockedArray:
        """The array, with room for all blocks in whole groups."""
        room = -(-len(self._sizes) // GROUP) * GROUP
        self._storage.require_array(self._path, (room, _FIELDS), "uint64", (GROUP, _FIELDS), ("block", "field"))
        array = BlockedArray(self._storage, self._path)
        array.grow(room)
        return array


def withdraw(storage: Storage, key: str, block: int) -> None:
    """Say that a complete block is about to change; before it does."""
    storage.rewrite_group(f"{key}/{WITHDRAWN}/{block}", {})


def forget_withdrawn(storage: Storage, key: str) -> None:
    """Say that no block was withdrawn; only where there is no summary."""
    storage.delete(f"{key}/{WITHDRAWN}")


def list_withdrawn(storage: Storage, key: str) -> list[int]:
    """Blocks that changed, or may have, after they were complete."""
    return [int(name) for name in storage.children(f"{key}/{WITHDRAWN}") if name.isdecimal()]


def may_be_summarised(rows: int, block_rows: int) -> bool:
    """Whether features with so many rows have a summary."""
    return rows > FIRST_BLOCKS * block_rows
