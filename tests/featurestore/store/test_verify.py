from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from featurestore.store import open_store
from featurestore.store.entry import Counts
from featurestore.store.layout.blocked_array import BlockedArray
from featurestore.store.layout.key_arrays import COLUMNS
from featurestore.store.verify import verify

ARRAYS = ("cls/values", "cls/state", "avg_patch/values", *COLUMNS)


def chunk(store, arrays, name: str, block: int) -> Path:
    folder = Path(store.path) / arrays.path / name / "c" / str(block)
    return folder / "0" if folder.is_dir() else folder


def test_a_sound_store_has_no_problems(full, store) -> None:
    store.put_cached("runs", "abc", {"x": np.arange(3)}, {})
    assert verify(store) == []
    assert verify(store, repair=True) == []
    assert full.counts() == Counts(10, 0, 0)


def test_a_store_that_is_being_filled_has_no_problems(store, make_table, make_entry, make_block) -> None:
    table = make_table(10)
    arrays = make_entry(store, table)
    arrays.write_block(1, make_block(table.sample_ids[4:8], poolings=["cls"], unreadable=[2]))
    store.put_dataset(make_table(13))
    assert verify(store) == []


@pytest.mark.parametrize("name", ARRAYS)
def test_damaged_chunks_are_found_and_forgotten(full, store, fill, make_table, expected, damage, name: str) -> None:
    damage(chunk(store, full, name, 1))
    (problem,) = verify(store)
    assert f"{full.path}, block 1" in problem.where
    assert f"{name}/c/1" in problem.what
    assert not problem.repaired
    assert [problem.repaired for problem in verify(store, repair=True)] == [True]
    assert verify(store) == []
    assert full.counts() == Counts(6, 0, 4)
    fill(full, make_table(10))
    np.testing.assert_array_equal(full.read().values, expected(make_table(10).sample_ids))


@pytest.mark.parametrize("name", ["cls/values", "avg_patch/values", *COLUMNS])
def test_deleted_chunks_are_found(full, store, name: str) -> None:
    chunk(store, full, name, 2).unlink()
    (problem,) = verify(store)
    assert "block 2" in problem.where


def test_rows_that_lie_about_themselves_are_found(full, store) -> None:
    def rewrite(name: str, block: int, row: int, value: float) -> None:
        array = BlockedArray(store.storage, f"{full.path}/{name}")
        rows = array.read_block(block)
        rows[row] = value
        array.write_block(block, rows)

    rewrite("cls/values", 0, 2, np.nan)
    rewrite("avg_patch/state", 1, 0, 7)
    rewrite("sample_hash", 2, 1, 5)
    whats = [problem.what for problem in verify(store)]
    assert whats == [
        "cls: rows that say done have no values",
        "avg_patch: a state that does not exist",
        "cls: rows of other samples than the dataset says; avg_patch: rows of other samples than the dataset says",
    ]


def test_leftovers_are_swept(full, store, make_table) -> None:
    root = Path(store.path)
    (root / full.path / "cls" / "values" / "c" / "0" / "0.77.partial").write_bytes(b"half")
    store.storage.put_array("datasets/galaxies/0123456789abcdef/present", np.ones(3, bool), ["sample"])
    store.storage.require_group("features/galaxies/full-224/dino/0123456789ab")
    store.storage.put_array("derived/runs/abc/x", np.ones(3), ["x_0"])
    store.close()
    reader = open_store(store.path)
    before = sorted(path for path in root.rglob("*"))
    assert [problem.repaired for problem in verify(reader)] == [False] * 4
    assert sorted(path for path in root.rglob("*")) == before
    swept = verify(store)
    assert [problem.repaired for problem in swept] == [True] * 4
    assert {problem.what for problem in swept} == {
        "a .partial file of a killed process",
        "a revision that is not in use, or a part of one",
        "features whose making or removal was cut short",
        "an incomplete, damaged or misplaced entry",
    }
    assert verify(store) == []
    assert full.read().values.shape == (10, 3)


def test_a_damaged_dataset_is_reported(full, store, damage) -> None:
    (path,) = Path(store.path).glob("datasets/galaxies/columns/stamp/*/c/0")
    damage(path)
    problems = verify(store, repair=True)
    assert [problem.repaired for problem in problems] == [False, False]
    assert "datasets/galaxies" in problems[0].where
    assert problems[1].what == "features of a dataset that is absent or damaged: extract it again"


def test_a_moved_key_is_reported(full, store) -> None:
    path = Path(store.path) / full.path
    path.rename(path.with_name("0123456789ab"))
    assert [problem.what for problem in verify(store)] == ["features under the name of another key or place"]


@pytest.mark.parametrize("name", ["zarr.json", "cls/values/zarr.json", "stamp/zarr.json"])
def test_damaged_metadata_is_reported(full, store, name: str) -> None:
    (Path(store.path) / full.path / name).write_text("{")
    (problem,) = verify(store)
    assert full.path in problem.where
    assert not problem.repaired


def test_repair_beside_a_writer_never_touches_what_it_owns(store, make_table, make_entry, make_block, expected) -> None:
    table = make_table(40)

    def write() -> None:
        for number in range(4):
            own = open_store(store.path, mode="a")
            entry = make_entry(own, table, precision=f"p{number % 2}")
            for block in range(10):
                entry.write_block(block, make_block(table.sample_ids[block * 4 : block * 4 + 4]))
            own.put_cached("runs", f"run{number}", {"x": np.arange(3)}, {})

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            verify(open_store(store.path, mode="a"), repair=True)
        writing.result()
    store.close()
    assert verify(open_store(store.path)) == []
    for entry in open_store(store.path).find():
        np.testing.assert_array_equal(entry.read().values, expected(table.sample_ids))


def test_damage_where_somebody_writes_is_told_and_left_alone(full, store) -> None:
    chunk(store, full, "cls/values", 1).write_bytes(b"")
    (problem,) = verify(open_store(store.path, mode="a"), repair=True)
    assert not problem.repaired
    assert problem.what.endswith(f"; left alone, process {os.getpid()} on {socket.gethostname()} is writing here")
    store.close()
    assert [problem.repaired for problem in verify(open_store(store.path, mode="a"), repair=True)] == [True]


def test_no_table_is_swept_while_the_current_one_is_not_known(full, store) -> None:
    """Wherever one bit of what names it is wrong, the table is all there, and stays."""
    folder = Path(store.path) / "datasets" / "galaxies"
    metadata = folder / "zarr.json"
    raw, before = metadata.read_bytes(), sorted(folder.rglob("*"))
    for place in range(0, len(raw), 5):
        metadata.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        verify(open_store(store.path, mode="a"), repair=True)
        assert sorted(folder.rglob("*")) == before, place
