from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import CorruptStoreError
from featurestore.samples import UNLABELLED, SampleTable
from featurestore.store.layout.storage import Storage
from featurestore.store.layout.table_arrays import StoredTable, arrays_digest, read_table, write_table


def assert_same(one: object, two: object) -> None:
    """Equal field by field, arrays included."""
    assert type(one) is type(two)
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(two, field.name)
        if field.name == "labels":
            assert list(mine) == list(theirs)
            mine, theirs = list(mine.values()), list(theirs.values())
        if field.name in {"boxes", "table"} and mine is not None:
            assert_same(mine, theirs)
        else:
            np.testing.assert_equal(theirs, mine)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path), read_only=False)


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("n", [1, 7])
def test_a_table_survives(storage: Storage, make_table, n: int, boxes: bool) -> None:
    stored = StoredTable.first(make_table(n, boxes=boxes))
    write_table(storage, f"d/{stored.revision}", stored)
    assert_same(read_table(storage, f"d/{stored.revision}"), stored)


def test_a_table_without_labels_survives(storage: Storage, make_table) -> None:
    stored = StoredTable.first(make_table(3, labels={}, classes={}))
    write_table(storage, f"d/{stored.revision}", stored)
    assert_same(read_table(storage, f"d/{stored.revision}"), stored)


@pytest.mark.parametrize(
    "change",
    [
        {"sample_ids": ("a", "b", "d")},
        {"splits": np.array(["test"] * 3)},
        {"labels": {"peaks": np.array([0, 0, 0])}},
        {"classes": {"peaks": ("one", "three"), "has/bar?": ("no", "yes")}},
        {"fingerprints": np.array([1, 2, 4], dtype=np.uint64)},
        {"source": "elsewhere"},
        {"notice": "free"},
        {"groups": np.array(["x", "y", "z"])},
    ],
)
def test_every_change_makes_another_revision(make_table, change: dict) -> None:
    assert StoredTable.first(make_table(3, **change)).revision != StoredTable.first(make_table(3)).revision


def test_rows_never_move(make_table) -> None:
    old = StoredTable.first(make_table(["a00.png", "b01.png", "c02.png"], boxes=True))
    new = make_table(["e04.png", "c02.png", "a00.png", "d03.png"], version=1, boxes=True)
    merged, rows = StoredTable.updated(old.table.sample_ids, new)
    assert rows.tolist() == [3, 2, 0, 4]
    assert merged.table.sample_ids == ("a00.png", "b01.png", "c02.png", "e04.png", "d03.png")
    assert merged.present.tolist() == [True, False, True, True, True]
    assert_same(merged.table.take(rows), new)
    assert merged.table.labels["peaks"][1] == UNLABELLED
    assert merged.table.splits[1] == ""
    assert len(merged.table.boxes.of(1)) == 0
    assert "b01.png" not in merged.samples.sample_ids


IDS = st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=8)


@given(st.lists(IDS, min_size=1, max_size=5))
@settings(max_examples=40)
def test_any_history_keeps_rows(history: list[list[int]]) -> None:
    def table(numbers: list[int]) -> SampleTable:
        n = len(numbers)
        labels = {"x": np.array(numbers, dtype=np.int64)}
        fingerprints = np.array(numbers, dtype=np.uint64)
        names = tuple(f"id{number}" for number in numbers)
        return SampleTable("d", names, labels, {"x": tuple(map(str, range(13)))}, np.array(["train"] * n), fingerprints)

    stored = StoredTable.first(table(history[0]))
    for numbers in history[1:]:
        before = stored.table.sample_ids
        stored, rows = StoredTable.updated(stored.table.sample_ids, table(numbers))
        assert stored.table.sample_ids[: len(before)] == before
        assert [stored.table.sample_ids[row] for row in rows] == [f"id{number}" for number in numbers]
        assert sorted(stored.samples.labels["x"].tolist()) == sorted(numbers)


@pytest.mark.parametrize("damage", ["flip", "empty", "delete", "no attributes"])
def test_damage_is_seen(storage: Storage, make_table, tmp_path: Path, damage: str) -> None:
    stored = StoredTable.first(make_table(5))
    path = f"d/{stored.revision}"
    write_table(storage, path, stored)
    chunk = tmp_path / path / "label" / "peaks" / "c" / "0"
    if damage == "flip":
        chunk.write_bytes(b"\1" + chunk.read_bytes()[1:])
    elif damage == "empty":
        chunk.write_bytes(b"")
    elif damage == "delete":
        chunk.unlink()
    else:
        (tmp_path / path / "zarr.json").unlink()
    with pytest.raises(CorruptStoreError):
        read_table(storage, path)


def test_an_interrupted_revision_is_completed(storage: Storage, make_table) -> None:
    stored = StoredTable.first(make_table(5, boxes=True))
    storage.put_array(f"d/{stored.revision}/present", np.zeros(5, dtype=bool), ["sample"])
    write_table(storage, f"d/{stored.revision}", stored)
    assert_same(read_table(storage, f"d/{stored.revision}"), stored)


def test_the_digest_sees_names_types_shapes_and_bytes() -> None:
    arrays = [
        {"a": np.arange(6, dtype="<i4")},
        {"b": np.arange(6, dtype="<i4")},
        {"a": np.arange(6, dtype="<u4")},
        {"a": np.arange(6, dtype="<i4").reshape(2, 3)},
        {"a": np.array([0, 1, 2, 3, 4, 6], dtype="<i4")},
    ]
    digests = [arrays_digest(one, {}) for one in arrays] + [arrays_digest(arrays[0], {"x": 1})]
    assert len(set(digests)) == len(digests)
    assert arrays_digest({"a": np.arange(12)[::2]}, {}) == arrays_digest({"a": np.arange(0, 12, 2)}, {})
