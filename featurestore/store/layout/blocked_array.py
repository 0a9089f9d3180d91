"""BlockedArray: an array whose blocks of rows are whole chunks, read with every check that Zarr leaves out.

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
from featurestore.store.layout.backends.base import Contents
from featurestore.store.layout.storage import Storage

_CRC_BYTES = 4
with np.errstate(invalid="ignore"):  # some processors complain of the NaNs among them
    _FLOAT32_OF = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
"""Every float16 as float32: looking them up takes half the time of NumPy's conversion."""


class BlockedArray:
    """One array of a store, (n, ...), with blocks along its first axis; each is one chunk, or several of equal size.

    Args:
        storage: Where it is.
        path: Its path below the root.
        block_rows: Rows of a block, a multiple of those of a chunk; those of a chunk for None.

    Attributes:
        path: Its path below the root.
        dtype: Type of the stored values, little-endian.
        block_rows: Rows of a block.
        chunk_rows: Rows of a chunk, which is one file.
        shape: Shape of a row.
        width: Values of a row.

    Raises:
        CorruptStoreError: There is no such array.
    """

    def __init__(self, storage: Storage, path: str, block_rows: int | None = None) -> None:
        array = storage.array(path)
        if array is None:
            raise storage.corrupt("an array is missing", path)
        self.path = path
        self.dtype = np.dtype(array.dtype).newbyteorder("<")
        self.chunk_rows = array.chunks[0]
        self.block_rows = block_rows or self.chunk_rows
        self.shape = array.chunks[1:]
        self.width = int(np.prod(self.shape))
        self._storage = storage
        self._array = array
        self._chunk_bytes = self.chunk_rows * self.width * self.dtype.itemsize + _CRC_BYTES

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
        return np.full((rows, *self.shape), self._array.fill_value, dtype=self.dtype)

    def visit(self, chunks: Sequence[int], use: Callable[[int, NDArray[Any] | None], object]) -> None:
        """Read chunks, and hand each to `use`, checked: several at once, in no order.

        Args:
            chunks: Numbers of the chunks.
            use: Called with the number and the rows, which are valid only during the call; None for a chunk that was
                never written.

        Raises:
            CorruptStoreError: A chunk has the wrong size or checksum.
        """

        def decode(number: int, raw: Contents | None) -> None:
            chunk = chunks[number]
            use(chunk, None if raw is None else self._decode(chunk, raw))

        self._storage.read_files([self._file(chunk) for chunk in chunks], self._chunk_bytes, decode)

    def read_stored(self, block: int) -> NDArray[Any] | None:
        """One block; None if nothing of it was ever written."""
        chunks = self._chunks(block)
        found: dict[int, NDArray[Any]] = {}

        def keep(chunk: int, rows: NDArray[Any] | None) -> None:
            if rows is not None:
                found[chunk] = rows.copy()

        self.visit(chunks, keep)
        if not found:
            return None
        parts = [found[chunk] if chunk in found else self.fill(self._length(chunk)) for chunk in chunks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def read_block(self, block: int) -> NDArray[Any]:
        """One block; fill values if it was never written."""
        rows = self.read_stored(block)
        return self.fill(sum(map(self._length, self._chunks(block)))) if rows is None else rows

    def read_all(self, rows: int) -> NDArray[Any]:
        """The first rows, (rows, ...); fill values where nothing was written, or where the array has fewer rows."""
        return self.read_rows(np.arange(rows))

    def read_rows(
        self,
        rows: NDArray[np.int64],
        dtype: DTypeLike | None = None,
        *,
        required: bool = False,
        belongs: Callable[[NDArray[np.int64], NDArray[Any]], bool] | None = None,
    ) -> NDArray[Any]:
        """Some rows, (len(rows), ...), out of the chunks that have them, each of which is read once.

        Args:
            rows: Ascending.
            dtype: Type of the result; `dtype` of the array for None.
            required: Whether a row that was never written is an error; otherwise it has fill values. A row whose
                first value is NaN was never written.
            belongs: Whether these rows and their stored values belong together; asked for two rows of every chunk,
                since a chunk that lies in the wrong place is wrong in every row.

        Raises:
            CorruptStoreError: A chunk has the wrong size or checksum, or lies in the wrong place; or a required row was
                never written.
        """
        size = self.chunk_rows
        n_chunks = int(rows[-1]) // size + 1 if len(rows) else 0
        edges = np.searchsorted(rows, np.arange(n_chunks + 1) * size)
        out = np.empty((len(rows), *self.shape), dtype=dtype or self.dtype)

        def place(chunk: int, values: NDArray[Any] | None) -> None:
            span = slice(edges[chunk], edges[chunk + 1])
            stored, wanted = self.fill(0) if values is None else values, rows[span] - chunk * size
            known = wanted[wanted < len(stored)]
            if required and (len(known) < len(wanted) or np.isnan(stored[known, 0]).any()):
                raise self._corrupt(chunk, "has no values for rows that say done")
            ends = known[[0, -1]] if len(known) else known
            if belongs and not belongs(ends + chunk * size, stored[ends]):
                raise self._corrupt(chunk, "holds rows that belong elsewhere")
            _convert(stored, known, out[span][: len(known)])
            out[span][len(known) :] = self._array.fill_value

        self.visit(np.flatnonzero(np.diff(edges)).tolist(), place)
        return out

    def write_block(self, block: int, values: NDArray[Any]) -> None:
        """Write one whole block, each of its chunks atomically."""
        start = block * self.block_rows
        for chunk in self._chunks(block):
            first = chunk * self.chunk_rows
            part = values[first - start : first - start + self.chunk_rows]
            if len(part):
                with self._storage.writing(self._file(chunk)):
                    self._array[first : first + len(part)] = part

    def list_chunks(self) -> list[str]:
        """Names of the chunks that were written, along the first axis."""
        return [name for name in self._storage.children(f"{self.path}/c") if name.isdecimal()]

    def delete_block(self, block: int) -> None:
        """Delete one block, so that it was never written."""
        for chunk in self._chunks(block):
            self._storage.delete_file(self._file(chunk))

    def _chunks(self, block: int) -> range:
        """The chunks of a block; none beyond the rows that there is room for, but the first."""
        first, together = block * self.block_rows // self.chunk_rows, self.block_rows // self.chunk_rows
        last = -(-self.rows // self.chunk_rows)
        return range(first, max(first + 1, min(first + together, last)))

    def _length(self, chunk: int) -> int:
        return max(0, min(self.chunk_rows, self.rows - chunk * self.chunk_rows))

    def _file(self, chunk: int) -> str:
        return f"{self.path}/{self._array.metadata.encode_chunk_key((chunk,) + (0,) * len(self.shape))}"

    def _decode(self, chunk: int, raw: Contents) -> NDArray[Any]:
        if len(raw) != self._chunk_bytes:
            raise self._corrupt(chunk, f"is damaged: {len(raw)} bytes instead of {self._chunk_bytes}")
        body, checksum = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:].tobytes()
        if google_crc32c.value(cast("bytes", body)) != int.from_bytes(checksum, "little"):  # any buffer will do
            raise self._corrupt(chunk, "is damaged: the checksum is wrong")
        return body.view(self.dtype).reshape(-1, *self.shape)[: self._length(chunk)]

    def _corrupt(self, chunk: int, what: str) -> CorruptStoreError:
        first = chunk * self.chunk_rows
        rows = f"rows {first:,} to {first + max(1, self._length(chunk)) - 1:,}"
        return self._storage.corrupt(f"block {first // self.block_rows} {what} ({rows})", self._file(chunk))


def _convert(values: NDArray[Any], rows: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Copy these ascending rows into `out`, in its type."""
    neighbours = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
    chosen = values[rows[0] : rows[-1] + 1] if neighbours else values[rows]  # a slice is not a copy
    if values.dtype == np.float16 and out.dtype == np.float32:
        np.take(_FLOAT32_OF, chosen.view(np.uint16), out=out, mode="clip")  # "raise" would buffer `out`
    else:
        out[...] = chosen
