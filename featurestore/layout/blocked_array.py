"""BlockedArray: an array whose chunks are whole blocks of rows, read with every check that Zarr leaves out.

Zarr takes an absent chunk, and even an empty chunk file, for fill values. Chunks are therefore decoded here, which is
little: the format fixes their codecs to plain little-endian bytes followed by a CRC-32C (RFC 3720).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError
from featurestore.layout.storage import REPAIR, Storage

_CRC_BYTES = 4
_READ_AHEAD = 16
"""Chunks fetched together: an object store answers them in parallel, and memory stays small."""


class BlockedArray:
    """One array of a store, (n, ...), with blocks along its first axis.

    Args:
        storage: Where it stands.
        path: Its path below the root.

    Raises:
        CorruptStoreError: There is no such array.
    """

    def __init__(self, storage: Storage, path: str) -> None:
        array = storage.array(path)
        if array is None:
            raise CorruptStoreError("an array is missing", where=storage.where(path), hint=REPAIR)
        self.path = path
        self._storage = storage
        self._array = array
        self._dtype = np.dtype(array.dtype).newbyteorder("<")

    @property
    def rows(self) -> int:
        """Rows it has room for."""
        return self._array.shape[0]

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return self._array.chunks[0]

    @property
    def n_blocks(self) -> int:
        """Blocks it has room for."""
        return -(-self.rows // self.block_rows)

    def grow(self, rows: int) -> None:
        """Make room for at least `rows` rows."""
        if rows > self.rows:
            with self._storage.writing(self.path):
                self._array.resize((rows, *self._array.shape[1:]))

    def fill(self, rows: int) -> NDArray[Any]:
        """`rows` rows of fill values."""
        return np.full((rows, *self._array.shape[1:]), self._array.fill_value, dtype=self._array.dtype)

    def read_blocks(self, blocks: Iterable[int]) -> Iterator[tuple[int, NDArray[Any] | None]]:
        """Pairs of block number and rows, read-only; None for a block that was never written.

        Raises:
            CorruptStoreError: A chunk has the wrong size or checksum.
        """
        remaining = iter(blocks)
        while batch := list(islice(remaining, _READ_AHEAD)):
            for block, raw in zip(batch, self._storage.read_many([self._chunk(b) for b in batch]), strict=True):
                yield block, None if raw is None else self._decode(block, raw)

    def read_stored(self, block: int) -> NDArray[Any] | None:
        """One block, read-only; None if it was never written."""
        _, rows = next(self.read_blocks([block]))
        return rows

    def read_block(self, block: int) -> NDArray[Any]:
        """A writable copy of one block; fill values if it was never written."""
        rows = self.read_stored(block)
        return self.fill(self._length(block)) if rows is None else rows.copy()

    def read_all(self, rows: int | None = None) -> NDArray[Any]:
        """All rows, (rows, ...); fill values where nothing was written, or where the array has fewer rows."""
        out = self.fill(max(self.rows, rows or 0))
        size = self.block_rows
        for block, values in self.read_blocks(range(self.n_blocks)):
            if values is not None:
                out[block * size : block * size + len(values)] = values
        return out if rows is None else out[:rows]

    def write_block(self, block: int, values: NDArray[Any]) -> None:
        """Write one whole block: one file, atomically."""
        start = block * self.block_rows
        with self._storage.writing(self._chunk(block)):
            self._array[start : start + len(values)] = values

    def delete_block(self, block: int) -> None:
        """Delete one block, so that it was never written."""
        self._storage.delete_file(self._chunk(block))

    def _length(self, block: int) -> int:
        return min(self.block_rows, self.rows - block * self.block_rows)

    def _chunk(self, block: int) -> str:
        return f"{self.path}/{self._array.metadata.encode_chunk_key((block,) + (0,) * (self._array.ndim - 1))}"

    def _decode(self, block: int, raw: bytes) -> NDArray[Any]:
        shape, body = self._array.chunks, raw[:-_CRC_BYTES]
        expected = int(np.prod(shape)) * self._dtype.itemsize + _CRC_BYTES
        if len(raw) != expected:
            raise self._corrupt(block, f"{len(raw)} bytes instead of {expected}")
        if google_crc32c.value(body) != int.from_bytes(raw[-_CRC_BYTES:], "little"):
            raise self._corrupt(block, "the checksum is wrong")
        return np.frombuffer(body, dtype=self._dtype).reshape(shape)[: self._length(block)]

    def _corrupt(self, block: int, what: str) -> CorruptStoreError:
        return CorruptStoreError(
            f"block {block} is damaged: {what}", where=self._storage.where(self._chunk(block)), hint=REPAIR
        )
