"""Revisions: a dataset in store rows as a list of segments, named by a digest of all that it says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError, DatasetError
from featurestore.store.key import canonical_json
from featurestore.store.layout.storage import Storage
from featurestore.store.table import columns as column_store
from featurestore.store.table.columns import Column, ColumnType, Segment, StoredColumn, seal, write_segment
from featurestore.store.table.pieces import Pieces
from featurestore.store.table.samples import FAMILIES, HASH, ID, KEPT, PRESENT, box_types, sample_types
from featurestore.store.table.stored_table import StoredTable

COLUMNS = "columns"
"""Group of the segments of a dataset, of all its revisions."""

Write = Callable[[str, ColumnType, Segment, NDArray[Any]], object]
"""Takes a column's name and type, a segment, and its rows as they are stored."""


def write_nothing(name: str, kind: ColumnType, segment: Segment, stored: NDArray[Any]) -> None:
    """Only the digest is wanted."""


def segment_writer(storage: Storage, path: str, known: StoredTable | None) -> Write:
    """Writes the segments of a dataset that no known revision has."""
    there, groups = set(list_segments(known)), set[str]()

    def write(name: str, kind: ColumnType, segment: Segment, stored: NDArray[Any]) -> None:
        if (name, segment.digest) in there:
            return
        folder = f"{path}/{COLUMNS}/{name}"
        for group in _from_the_top(folder):  # Zarr makes them after what is in them, or never if that is cut short
            if group not in groups:
                _make_group(storage, group)
                groups.add(group)
        write_segment(storage, folder, kind, segment, stored)

    return write


def _make_group(storage: Storage, path: str) -> None:
    """Make a group where there is none; one whose metadata is damaged is made anew."""
    try:
        storage.require_group(path)
    except CorruptStoreError:
        storage.rewrite_group(path, {})


def _from_the_top(path: str) -> Iterator[str]:
    """A group and those above it, the uppermost first."""
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))


def list_segments(stored: StoredTable | None) -> Iterator[tuple[str, str]]:
    """Column and digest of every segment of a stored revision."""
    for name, column in ({} if stored is None else stored.columns).items():
        if isinstance(column, StoredColumn):
            yield from ((name, segment.digest) for segment in column.segments)


def build_revision(
    about: Mapping[str, Any], pieces: Pieces, rows: int, known: StoredTable | None, write: Write
) -> dict[str, Any]:
    """Cut a dataset into segments, hand each to `write`, and list them.

    Args:
        about: Its description, see `samples.describe`.
        pieces: The dataset as it is now.
        rows: Store rows.
        known: The dataset before, whose sample ids stay.
        write: Takes the segments.

    Returns:
        The attributes of the revision.
    """
    size, n_present = column_store.SEGMENT_ROWS, 0
    samples, boxes = sample_types(about), box_types(about)
    segments: dict[str, list[Segment]] = {name: [] for name in (*samples, *boxes)}
    for start in range(0, max(rows, 1), size):
        span = range(start, min(start + size, rows))
        parts = {name: pieces.gather(name, kind, span, kept(known, name, span)) for name, kind in samples.items()}
        _check_kept(known, parts, span)
        n_present += int(parts[PRESENT].sum())
        parts |= pieces.gather_boxes(span) if boxes else {}
        for name, values in parts.items():
            segment, stored = seal(values)
            write(name, (samples | boxes)[name], segment, stored)
            segments[name].append(segment)
    columns = {name: Column(kind, tuple(segments[name])).to_json() for name, kind in (samples | boxes).items()}
    return {**about, "rows": rows, "present": n_present, COLUMNS: columns}


def name_revision(attributes: Mapping[str, Any]) -> str:
    """Digest of the attributes of a revision, which are its name, 16 hexadecimal digits."""
    return hashlib.sha256(canonical_json(attributes).encode()).hexdigest()[:16]


def read_revision(storage: Storage, path: str, name: str) -> StoredTable:
    """Open a revision of the dataset at `path`, whose columns are read when they are asked for.

    Raises:
        CorruptStoreError: Its attributes are not those that its name was made from.
    """
    where = f"{path}/{name}"
    try:
        attributes = storage.attributes(where) or {}
        if name_revision(attributes) != name:
            raise damaged(storage.where(where))
        types = sample_types(attributes) | box_types(attributes)
        columns = {
            column: StoredColumn(
                storage, f"{path}/{COLUMNS}/{column}", Column.from_json(types.get(column, ColumnType("")), record)
            )
            for column, record in attributes[COLUMNS].items()
        }
        return StoredTable(attributes, columns, attributes["rows"], attributes["present"], name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(storage.where(where)) from error
    except CorruptStoreError as error:
        raise damaged(error.where, error.what) from error


def check_segments(stored: StoredTable, names: Iterable[str]) -> None:
    """Read columns, and compare each segment with its digest; one segment is in memory at a time.

    Raises:
        CorruptStoreError: Anything is damaged.
    """
    for name in names:
        if isinstance(column := stored.columns[name], StoredColumn):
            column.check()


def delete_others(storage: Storage, path: str, current: str) -> None:
    """Delete the revisions and segments of a dataset that its current revision does not need."""
    for other in find_others(storage, path, current):
        storage.delete(other)


def find_others(storage: Storage, path: str, current: str) -> list[str]:
    """Paths of the revisions and segments of a dataset that its current revision does not need.

    Raises:
        CorruptStoreError: The current revision is damaged, so that nothing tells what it needs.
    """
    needed = set(list_segments(read_revision(storage, path, current)))
    others = [f"{path}/{child}" for child in storage.children(path) if child not in {COLUMNS, current}]
    for column in list_columns(storage, path):
        found = storage.children(f"{path}/{COLUMNS}/{column}")
        others += [f"{path}/{COLUMNS}/{column}/{digest}" for digest in found if (column, digest) not in needed]
    return others


def list_columns(storage: Storage, path: str) -> Iterator[str]:
    """Columns that have any segment in the store."""
    for name in storage.children(f"{path}/{COLUMNS}"):
        if name in FAMILIES:
            yield from (f"{name}/{child}" for child in storage.children(f"{path}/{COLUMNS}/{name}"))
        else:
            yield name


def damaged(where: str, what: str = "") -> CorruptStoreError:
    """The error of a table that is damaged."""
    text = "the sample table is damaged"
    hint = "Extract the dataset again, which writes the table anew."
    return CorruptStoreError(what if what.startswith(text) else f"{text}: {what}".rstrip(": "), where=where, hint=hint)


def kept(known: StoredTable | None, name: str, span: range) -> NDArray[Any] | None:
    """What the first rows of a span have of a column that stays when their sample goes."""
    if known is None or name not in KEPT or span.start >= len(known):
        return None
    return known.columns[name].take(range(span.start, min(span.stop, len(known))))


def _check_kept(known: StoredTable | None, parts: Mapping[str, NDArray[Any]], span: range) -> None:
    """A sample keeps the row of another one only if their ids have the same hash: that is refused."""
    before = kept(known, ID, span)
    if before is not None and not np.array_equal(parts[ID][: len(before)], before):
        row = int((parts[ID][: len(before)] != before).argmax())
        raise DatasetError(
            f"two sample ids have the same hash {int(parts[HASH][row]):016x}: {parts[ID][row].decode()}, and "
            f"{before[row].decode()} of an earlier table",
            where=known.name if known else "",
            hint="Rename one of them.",
        )
