"""Columns of any type, in segments: what is sealed and written is read, whichever rows are asked for."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.errors import CorruptStoreError
from featurestore.store.layout.storage import Storage
from featurestore.store.table.columns import Column, ColumnType, StoredColumn, decode, encode, seal, write_segment

MAGNITUDE = ColumnType("float32", blank=np.nan, unit="mag", ucd="phot.mag;em.opt.R")
NAME = ColumnType("text", ucd="meta.id")
KINDS = {
    "magnitude": (MAGNITUDE, np.linspace(14, 22, 11).astype("f4")),
    "name": (NAME, encode(["", "é", "a name that is longer", *"abcdefg", "日本"])),
    "flag": (ColumnType("bool"), np.arange(11) % 3 == 0),
    "place": (ColumnType("float64", (2,), dimensions=("sample", "angle")), np.arange(22.0).reshape(11, 2)),
}


def write(storage: Storage, name: str, edges: list[int]) -> StoredColumn:
    kind, values = KINDS[name]
    segments = []
    for start, stop in pairwise(edges):
        segment, stored = seal(values[start:stop])
        write_segment(storage, f"columns/{name}", kind, segment, stored)
        segments.append(segment)
    record = json.loads(json.dumps(Column(kind, tuple(segments)).to_json()))
    return StoredColumn(storage, f"columns/{name}", Column.from_json(kind, record))


@pytest.mark.parametrize("name", KINDS)
@given(
    inner=st.lists(st.integers(0, 11), max_size=4),
    rows=st.sets(st.integers(0, 10)),
    span=st.tuples(st.integers(0, 11), st.integers(0, 11)),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rows_of_any_segments(tmp_path: Path, name: str, inner: list, rows: set, span: tuple) -> None:
    column, values = write(Storage(str(tmp_path), read_only=False), name, [0, *sorted(inner), 11]), KINDS[name][1]
    some = np.array(sorted(rows), dtype=np.int64)
    np.testing.assert_array_equal(column.take(some), values[some])
    np.testing.assert_array_equal(column.take(range(*span)), values[slice(*span)] if span[0] < span[1] else values[:0])


@pytest.mark.parametrize("name", KINDS)
def test_a_column_says_what_it_holds_to_any_reader(tmp_path: Path, name: str) -> None:
    column = write(Storage(str(tmp_path), read_only=False), name, [0, 4, 11])
    kind, values = KINDS[name]
    assert (column.type.unit, column.type.ucd, column.type.dtype) == (kind.unit, kind.ucd, kind.dtype)
    parts = [zarr.open_array(str(tmp_path / "columns" / name / segment.digest))[:] for segment in column.segments]
    if name == "name":
        read = [bytes(text).rstrip(b"\0").decode() for part in parts for text in part]
        assert read == decode(values)
        assert [segment.width for segment in column.segments] == [21, 6], "each as wide as its longest"
    else:
        np.testing.assert_array_equal(np.concatenate(parts), values)


def test_equal_rows_have_equal_names_and_others_do_not() -> None:
    values = np.arange(6, dtype="<i4")
    others = [values.astype("<u4"), values.reshape(2, 3), values[:5], values[::-1], encode(["a"])]
    digests = {seal(one)[0].digest for one in (values, *others)}
    assert len(digests) == 6
    assert seal(np.arange(12, dtype="<i4")[::2] // 2)[0] == seal(values)[0]
    assert seal(values.astype(">i4"))[0] == seal(values)[0]


@pytest.mark.parametrize("how", ["flip", "swap", "lost"])
def test_check_finds_what_the_checksum_of_a_chunk_does_not(tmp_path: Path, how: str) -> None:
    column = write(Storage(str(tmp_path), read_only=False), "magnitude", [0, 5, 10, 11])
    column.check()
    one, other = (tmp_path / "columns" / "magnitude" / column.segments[n].digest / "c" / "0" for n in (0, 1))
    if how == "lost":
        one.unlink()
    else:
        one.write_bytes(other.read_bytes() if how == "swap" else b"\1" + one.read_bytes()[1:])
    with pytest.raises(CorruptStoreError, match=r"segment 0 .*Extract the dataset again"):
        column.check()
