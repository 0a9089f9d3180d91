"""BlockedArray: an array whose chunks are whole blocks of rows, read with every check that Zarr leaves out.

Zarr takes an absent chunk, and even an empty chunk file, for fill values. Chunks are therefore decoded here, which is
little: the format fixes their codecs to plain little-endian bytes followed by a CRC-32C (RFC 3720).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import google_crc32c
import numpy as np
from numpy.typing import DTypeLike, NDArray

from featurestore.errors import CorruptStoreError
from featurestore.layout.storage import REPAIR, Contents, Storage

_CRC_BYTES = 4
with np.errstate(invalid="ignore"):  # some processors complain of the NaNs among them
    _FLOAT32_OF = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
"""Every float16 as float32: looking them up takes half the time of NumPy's conversion."""


class BlockedArray:
    """One array of a store, (n, ...), with blocks along its first axis.

    Args:
        storage: Where it stands.
        path: Its path below the root.

    Attributes:
        path: Its path below the root.
        dtype: Type of the stored values, little-endian.
        block_rows: Rows of a block.
        width: Values of a row.

    Raises:
        CorruptStoreError: There is no such array.
    """

    def __init__(self, storage: Storage, path: str) -> None:
        array = storage.array(path)
        if array is None:
            raise CorruptStoreError("an array is missing", where=storage.where(path), hint=REPAIR)
        self.path = path
        self.dtype = np.dtype(array.dtype).newbyteorder("<")
        self.block_rows = array.chunks[0]
        self._shape = array.chunks[1:]
        self.width = int(np.prod(self._shape))
        self._storage = storage
        self._array = array
        self._chunk_bytes = self.block_rows * self.width * self.dtype.itemsize + _CRC_BYTES

    @property
    def rows(self) -> int:
        """Rows it has room for."""
        return self._array.shape[0]

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
        return np.full((rows, *self._shape), self._array.fill_value, dtype=self.dtype)

    def visit(self, blocks: Sequence[int], use: Callable[[int, NDArray[Any] | None], object]) -> None:
        """Read blocks, and hand each to `use`, checked: several at once, in no order.

        Args:
            blocks: Numbers of the blocks.
            use: Called with the number and the rows, which are valid only during the call; None for a block that was
                never written.

        Raises:
            CorruptStoreError: A chunk has the wrong size or checksum.
        """

        def decode(number: int, raw: Contents | None) -> None:
            block = blocks[number]
            use(block, None if raw is None else self._decode(block, raw))

        self._storage.read_files([self._chunk(block) for block in blocks], self._chunk_bytes, decode)

    def read_stored(self, block: int) -> NDArray[Any] | None:
        """One block; None if it was never written."""
        found: list[NDArray[Any] | None] = []
        self.visit([block], lambda _, rows: found.append(None if rows is None else rows.copy()))
        return found[0]

    def read_block(self, block: int) -> NDArray[Any]:
        """One block; fill values if it was never written."""
        rows = self.read_stored(block)
        return self.fill(self._length(block)) if rows is None else rows

    def read_all(self, rows: int) -> NDArray[Any]:
        """The first rows, (rows, ...); fill values where nothing was written, or where the array has fewer rows."""
        return self.read_rows(np.arange(rows))

    def read_rows(
        self, rows: NDArray[np.int64], dtype: DTypeLike | None = None, *, required: bool = False
    ) -> NDArray[Any]:
        """Some rows, (len(rows), ...), out of the blocks that have them, each of which is read once.

        Args:
            rows: Ascending.
            dtype: Type of the result; `dtype` of the array for None.
            required: Whether a row that was never written is an error; otherwise it has fill values. A row whose
                first value is NaN was never written.

        Raises:
            CorruptStoreError: A chunk has the wrong size or checksum, or a required row was never written.
        """
        size = self.block_rows
        n_blocks = int(rows[-1]) // size + 1 if len(rows) else 0
        edges = np.searchsorted(rows, np.arange(n_blocks + 1) * size)
        out = np.empty((len(rows), *self._shape), dtype=dtype or self.dtype)

        def place(block: int, values: NDArray[Any] | None) -> None:
            span = slice(edges[block], edges[block + 1])
            stored, wanted = self.fill(0) if values is None else values, rows[span] - block * size
            known = wanted[wanted < len(stored)]
            if required and (len(known) < len(wanted) or np.isnan(stored[known, 0]).any()):
                raise self._corrupt(block, "has no values for rows that say done")
            _convert(stored, known, out[span][: len(known)])
            out[span][len(known) :] = self._array.fill_value

        self.visit(np.flatnonzero(np.diff(edges)).tolist(), place)
        return out

    def write_block(self, block: int, values: NDArray[Any]) -> None:
        """Write one whole block: one file, atomically."""
        start = block * self.block_rows
        with self._storage.writing(self._chunk(block)):
            self._array[start : start + len(values)] = values

    def delete_block(self, block: int) -> None:
        """Delete one block, so that it was never written."""
        self._storage.delete_file(self._chunk(block))

    def _length(self, block: int) -> int:
        return max(0, min(self.block_rows, self.rows - block * self.block_rows))

    def _chunk(self, block: int) -> str:
        return f"{self.path}/{self._array.metadata.encode_chunk_key((block,) + (0,) * len(self._shape))}"

    def _decode(self, block: int, raw: Contents) -> NDArray[Any]:
        if len(raw) != self._chunk_bytes:
            raise self._corrupt(block, f"is damaged: {len(raw)} bytes instead of {self._chunk_bytes}")
        body, checksum = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:].tobytes()
        if google_crc32c.value(cast("bytes", body)) != int.from_bytes(checksum, "little"):  # any buffer will do
            raise self._corrupt(block, "is damaged: the checksum is wrong")
        return body.view(self.dtype).reshape(-1, *self._shape)[: self._length(block)]

    def _corrupt(self, block: int, what: str) -> CorruptStoreError:
        return CorruptStoreError(f"block {block} {what}", where=self._storage.where(self._chunk(block)), hint=REPAIR)


def _convert(values: NDArray[Any], rows: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Copy these ascending rows into `out`, in its type."""
    neighbours = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
    chosen = values[rows[0] : rows[-1] + 1] if neighbours else values[rows]  # a slice is no copy
    if values.dtype == np.float16 and out.dtype == np.float32:
        np.take(_FLOAT32_OF, chosen.view(np.uint16), out=out, mode="clip")  # "raise" would buffer `out`
    else:
        out[...] = chosen
