"""Columns: one value a row, in segments of rows; a segment is a Zarr array of one chunk, named by its digest.

A segment never changes, and whoever writes the same rows writes the same bytes under the same name. A reader of some
rows reads only the segments that have them. It compares each with the checksum that the revision states for it: a chunk
that is intact, but lies elsewhere, is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, cast

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError
from featurestore.store.layout.backends.base import Contents
from featurestore.store.layout.storage import ArraySpec, Storage

TEXT = "text"
"""Type of a column of strings: UTF-8, in memory an array of bytes, in the store a uint8 matrix padded with zeros."""

SEGMENT_ROWS = 2**20
"""Rows of a segment, so that one of numbers has 8 MB; the last one has less."""

_CRC_BYTES = 4
_DAMAGED = "Extract the dataset again, which writes the table anew."


class Segment(NamedTuple):
    """Some rows of a column.

    Attributes:
        digest: The first 32 digits of the SHA-256 of its type, shape and bytes; its name.
        rows: Its rows.
        crc: CRC-32C of its bytes.
        width: Bytes of a string; 0 for numbers.
    """

    digest: str
    rows: int
    crc: int
    width: int = 0


@dataclass(frozen=True)
class ColumnType:
    """What a column holds.

    Attributes:
        dtype: Name of a NumPy type, or `TEXT`.
        shape: Shape of a value; empty for single numbers and for text.
        blank: Number of rows without one; those of text are empty.
        unit: Unit of its numbers, as the Virtual Observatory writes it (VOUnits).
        ucd: What it means: a Unified Content Descriptor of the Virtual Observatory.
        dimensions: Names of the dimensions of the array.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    blank: Any = 0
    unit: str = ""
    ucd: str = ""
    dimensions: tuple[str, ...] = ("sample",)

    def blanks(self, rows: int, width: int = 1) -> NDArray[Any]:
        """So many rows without a value."""
        if self.dtype == TEXT:
            return np.zeros(rows, dtype=f"S{width}")
        return np.full((rows, *self.shape), self.blank, dtype=self.dtype)


@dataclass(frozen=True)
class Column:
    """A column of a revision.

    Attributes:
        type: What it holds.
        segments: Its rows, in order.
    """

    type: ColumnType
    segments: tuple[Segment, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """What the attributes of a revision say of it."""
        return {
            "dtype": self.type.dtype,
            "shape": list(self.type.shape),
            "unit": self.type.unit,
            "ucd": self.type.ucd,
            "segments": [list(segment) for segment in self.segments],
        }

    @classmethod
    def from_json(cls, kind: ColumnType, record: Mapping[str, Any]) -> Column:
        """The inverse of `to_json`."""
        stated = {name: record[name] for name in ("dtype", "unit", "ucd")}
        return cls(
            replace(kind, shape=tuple(record["shape"]), **stated),
            tuple(Segment(*segment) for segment in record["segments"]),
        )


def encode(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """Strings as an array of UTF-8 bytes."""
    return np.array([text.encode() for text in texts], dtype=np.bytes_) if len(texts) else np.zeros(0, dtype="S1")


def decode(texts: NDArray[np.bytes_]) -> list[str]:
    """The inverse of `encode`."""
    return [text.decode() for text in texts.tolist()]


def seal(values: NDArray[Any]) -> tuple[Segment, NDArray[Any]]:
    """The segment of these rows, and the array that is stored of it."""
    stored = _to_stored(values)
    raw = stored.reshape(-1).view(np.uint8)
    sha = hashlib.sha256(f"{stored.dtype.str}{stored.shape}".encode())
    sha.update(raw.data)
    width = stored.shape[1] if values.dtype.kind == "S" else 0
    crc = google_crc32c.value(cast("bytes", raw))  # any buffer will do
    return Segment(sha.hexdigest()[:32], len(values), crc, width), stored


def _to_stored(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "S":
        width = int(np.strings.str_len(values).max(initial=1)) or 1
        return np.ascontiguousarray(values.astype(f"S{width}")).view(np.uint8).reshape(len(values), width)
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def write_segment(storage: Storage, folder: str, kind: ColumnType, segment: Segment, stored: NDArray[Any]) -> None:
    """Write a segment below the folder of its column; one without rows is nothing."""
    names = (*kind.dimensions, f"{kind.dimensions[0]}_byte")[: stored.ndim]
    if len(stored):
        storage.rewrite_array(
            f"{folder}/{segment.digest}", stored.shape, ArraySpec(stored.dtype.str, stored.shape, names)
        )
        storage.put_array(f"{folder}/{segment.digest}", stored, names)


class StoredColumn:
    """A column in a store.

    Args:
        storage: Where it is.
        folder: Folder of its segments.
        column: What the revision says of it.
    """

    def __init__(self, storage: Storage, folder: str, column: Column) -> None:
        self._storage, self._folder, self.type, self.segments = storage, folder, column.type, column.segments
        self._last: tuple[int, NDArray[Any]] | None = None

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """int64 (segments + 1,): the first row of each segment, and the number of rows."""
        return np.append(0, np.cumsum([segment.rows for segment in self.segments], dtype=np.int64)).astype(np.int64)

    def take(self, rows: NDArray[np.int64] | range) -> NDArray[Any]:
        """The values of some ascending rows.

        Raises:
            CorruptStoreError: A segment is damaged, absent or lies in the wrong place.
        """
        edges = self.edges
        if isinstance(rows, range):
            bounds = np.clip(edges, rows.start, max(rows.start, rows.stop)) - rows.start
        else:
            bounds = np.searchsorted(rows, edges)
        touched = np.flatnonzero(np.diff(bounds)).tolist()
        width = max((self.segments[number].width for number in touched), default=1)
        out = np.empty((len(rows), *self.type.shape), dtype=self._dtype(width))

        def place(number: int, values: NDArray[Any]) -> None:
            span = slice(bounds[number], bounds[number + 1])
            first = int(rows[int(bounds[number])] - edges[number])
            last = int(rows[int(bounds[number + 1]) - 1] - edges[number])
            if last - first == span.stop - span.start - 1:
                out[span] = values[first : last + 1]
            else:
                out[span] = values[np.asarray(rows[span]) - edges[number]]

        self._visit(touched, place)
        return out

    def check(self) -> None:
        """Read all segments, and compare each with its digest.

        Raises:
            CorruptStoreError: One is damaged, absent or lies in the wrong place.
        """

        def compare(number: int, values: NDArray[Any]) -> None:
            if seal(values)[0] != self.segments[number]:
                raise self._corrupt(number, "has another digest")

        for number in range(len(self.segments)):
            self._visit([number], compare, fresh=True)

    def _dtype(self, width: int) -> np.dtype[Any]:
        return np.dtype(f"S{width}" if self.type.dtype == TEXT else self.type.dtype).newbyteorder("<")

    def _visit(self, numbers: Sequence[int], use: Any, *, fresh: bool = False) -> None:
        """Hand the values of segments to `use`; one that was read alone is kept, since its neighbours are read next."""
        last = self._last
        if not fresh and last and list(numbers) == [last[0]]:
            use(*last)
            return
        alone = len(numbers) == 1

        def decode_one(position: int, raw: Contents | None) -> None:
            number = numbers[position]
            values = self._decode(number, raw)
            if alone:
                values = values.copy()
                self._last = number, values
            use(number, values)

        size = max((self._bytes(self.segments[number]) for number in numbers), default=0)
        self._storage.read_files([self._file(number) for number in numbers], size, decode_one)

    def _bytes(self, segment: Segment) -> int:
        values = max(1, segment.width) * int(np.prod(self.type.shape))
        return segment.rows * values * (1 if segment.width else self._dtype(0).itemsize) + _CRC_BYTES

    def _file(self, number: int) -> str:
        ndim = 1 + len(self.type.shape) + (self.type.dtype == TEXT)
        return f"{self._folder}/{self.segments[number].digest}/c" + "/0" * ndim

    def _decode(self, number: int, raw: Contents | None) -> NDArray[Any]:
        segment = self.segments[number]
        if raw is None:
            raise self._corrupt(number, "is missing")
        if len(raw) != self._bytes(segment):
            raise self._corrupt(number, f"has {len(raw)} bytes instead of {self._bytes(segment)}")
        body, stated = raw[:-_CRC_BYTES], int.from_bytes(raw[-_CRC_BYTES:].tobytes(), "little")
        if not stated == google_crc32c.value(cast("bytes", body)) == segment.crc:
            raise self._corrupt(number, "has another checksum than the revision says")
        return body.view(self._dtype(segment.width)).reshape(segment.rows, *self.type.shape)

    def _corrupt(self, number: int, what: str) -> CorruptStoreError:
        where = self._storage.where(self._file(number))
        return CorruptStoreError(f"the sample table is damaged: segment {number} {what}", where=where, hint=_DAMAGED)


class MemoryColumn:
    """A column in memory, which reads as a stored one.

    Args:
        values: Its values.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    @property
    def edges(self) -> NDArray[np.int64]:
        """See `StoredColumn.edges`."""
        return np.array([0, len(self._values)], dtype=np.int64)

    def take(self, rows: NDArray[np.int64] | range) -> NDArray[Any]:
        """See `StoredColumn.take`."""
        taken: NDArray[Any] = self._values[slice(rows.start, rows.stop) if isinstance(rows, range) else rows]
        return taken
