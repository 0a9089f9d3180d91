"""Bytes that are intact, but lie in the wrong place, are found by reading and by verify."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import CorruptStoreError, StoreError
from featurestore.store import open_store
from featurestore.store.upkeep.migration import migrate
from featurestore.store.verify import verify

GOLDEN = Path(__file__).parent / "golden" / "format-1"


def chunk(folder: Path, block: int) -> Path:
    path = folder / "c" / str(block)
    while path.is_dir():
        path /= "0"
    return path


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


@pytest.fixture
def key(full, store) -> Path:
    return Path(store.path) / full.path


@pytest.mark.parametrize(
    "name", ["cls/values", "avg_patch/values", "cls/check", "check", "content", "stamp", "sample_hash"]
)
def test_swapped_chunks_are_found_by_verify(full, store, key: Path, name: str) -> None:
    swap(chunk(key / name, 0), chunk(key / name, 1))
    problems = verify(store)
    assert [problem.where.rpartition(", ")[2] for problem in problems] == ["block 0", "block 1"]
    assert not any(problem.repaired for problem in problems)
    assert [problem.repaired for problem in verify(store, repair=True)] == [True, True]
    assert verify(store) == []


def test_swapped_states_are_found_by_verify(store, make_table, make_entry, make_block) -> None:
    table = make_table(8)
    entry = make_entry(store, table)
    entry.write_block(0, make_block(table.sample_ids[:4], unreadable=[1]))
    entry.write_block(1, make_block(table.sample_ids[4:]))
    folder = Path(store.path) / entry.path / "cls" / "state"
    swap(chunk(folder, 0), chunk(folder, 1))
    assert {problem.where.rpartition(", ")[2] for problem in verify(store)} == {"block 0", "block 1"}


def test_swapped_values_are_found_by_reading_any_of_their_rows(full, store, key: Path) -> None:
    swap(chunk(key / "cls" / "values", 0), chunk(key / "cls" / "values", 1))
    for rows in (None, np.array([0]), np.array([7]), np.array([2, 9])):
        with pytest.raises(CorruptStoreError, match=r"block [01] holds rows that belong elsewhere"):
            full.read("cls", rows=rows)
    assert full.read("cls", rows=np.array([8, 9])).values.shape == (2, 3)
    assert full.read("avg_patch").values.shape == (10, 5)


def test_an_older_state_of_other_rows_in_the_same_place_is_found(full, store, key: Path, make_block) -> None:
    path = chunk(key / "cls" / "values", 1)
    before = path.read_bytes()
    full.write_block(1, make_block(store.sample_ids("galaxies")[4:8], version=1))
    path.write_bytes(before)
    with pytest.raises(CorruptStoreError, match="block 1 holds rows that belong elsewhere"):
        full.read("cls")


def test_a_key_that_was_copied_to_another_variant_is_refused(full, store, key: Path) -> None:
    shutil.copytree(key, key.parents[1].with_name("full-320") / key.parent.name / key.name)
    with pytest.raises(CorruptStoreError, match="under the name of another key or place"):
        store.find("galaxies", "full-320")
    assert ["full-320" in problem.where for problem in verify(store)] == [True]


def test_a_key_whose_fields_were_edited_is_refused(full, store, key: Path) -> None:
    path = key / "zarr.json"
    path.write_text(path.read_text().replace('"fp32"', '"bf16"'))
    with pytest.raises(CorruptStoreError, match="under the name of another key"):
        store.select("galaxies")


def test_a_cached_entry_that_was_copied_under_another_digest_counts_as_absent(store) -> None:
    store.put_cached("runs", "abc", {"x": np.arange(3)}, {"score": 1.0})
    folder = Path(store.path) / "derived" / "runs"
    shutil.copytree(folder / "abc", folder / "def")
    assert store.get_cached("runs", "abc") is not None
    assert store.get_cached("runs", "def") is None
    store.close()
    (problem,) = verify(open_store(store.path))
    assert problem.where.endswith("derived/runs/def")


def test_another_block_size_of_the_dataset_is_refused(full, store) -> None:
    root = Path(store.path) / "datasets" / "galaxies" / "zarr.json"
    root.write_text(root.read_text().replace('"block_rows": 4', '"block_rows": 2'))
    again = open_store(store.path, mode="a")
    for use in (lambda: again.select().read(), lambda: again.select().counts()):
        with pytest.raises(CorruptStoreError, match=r"chunks have 4 rows, and a block of this store has 2.*block_rows"):
            use()
    problems = verify(again, repair=True)
    assert problems and not any(problem.repaired for problem in problems)
    assert chunk(Path(store.path) / full.path / "cls" / "values", 0).exists()


def test_rows_that_were_computed_for_another_order_are_refused(store, make_table, make_entry, make_block) -> None:
    """Two processes put the dataset at once: one of them saw an image less."""
    fewer, all_of_them = make_table(tuple(make_table(6).sample_ids[1:])), make_table(6)
    entry = make_entry(store, fewer)
    store.put_dataset(fewer)
    shutil.rmtree(Path(store.path) / "datasets")
    store.put_dataset(all_of_them)
    with pytest.raises(StoreError, match=r"4 rows were computed for other samples.*row 0.*Run the same command again"):
        entry.write_block(0, make_block(fewer.sample_ids[:4]))
    assert entry.counts().done == 0


def test_rows_of_format_1_without_checks_are_read_and_new_ones_have_checks(tmp_path: Path, make_key) -> None:
    migrate(str(shutil.copytree(GOLDEN, tmp_path / "s")))
    store = open_store(str(tmp_path / "s"), mode="a")
    (entry,) = store.find()
    before = entry.read("avgpool").values
    entry = store.create(*(getattr(entry, name) for name in ("dataset", "variant", "backbone", "key", "shapes")), {})
    assert not entry.bound
    np.testing.assert_array_equal(entry.read("avgpool").values, before)
    assert verify(store) == []
    assert json.loads((tmp_path / "s" / entry.path / "check" / "zarr.json").read_text())["data_type"] == "uint32"
