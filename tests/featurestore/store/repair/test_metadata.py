"""Damaged metadata is written anew from the key; chunks are kept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr.storage

from featurestore.errors import CorruptStoreError, StoreError
from featurestore.store import open_store
from featurestore.store.layout.key_arrays import COLUMNS
from featurestore.store.upkeep.migration import migrate
from featurestore.store.verify import verify

GOLDEN = Path(__file__).parents[1] / "golden" / "format-1"
ARRAYS = ("cls/values", "cls/state", "avg_patch/check", "check", *COLUMNS)


def hurt(path: Path, how: str) -> None:
    if how == "lost":
        path.unlink()
    else:
        path.write_text({"empty": "", "cut off": '{"shape"', "a number": "1"}[how])


@pytest.mark.parametrize("how", ["empty", "cut off", "a number", "lost"])
@pytest.mark.parametrize("name", [*ARRAYS, "."])
def test_repair_writes_it_anew_and_keeps_the_chunks(full, store, expected, name: str, how: str) -> None:
    path = Path(store.path) / full.path / name / "zarr.json"
    before = json.loads(path.read_text())
    hurt(path, how)
    problems = verify(store)
    assert [problem.repaired for problem in problems] == [False]
    assert full.path in problems[0].where
    assert [problem.repaired for problem in verify(store, repair=True)] == [True]
    assert verify(open_store(store.path)) == []
    np.testing.assert_array_equal(open_store(store.path).select().read().values, expected(store.sample_ids("galaxies")))
    after = json.loads(path.read_text())
    if name != "stamp":  # its copy of the attributes is made anew by the next extraction
        assert after == before


@pytest.mark.parametrize("how", ["empty", "lost"])
@pytest.mark.parametrize("name", [*ARRAYS, "."])
def test_an_extraction_writes_it_anew_and_has_nothing_to_compute(
    full, store, make_table, make_entry, expected, name: str, how: str
) -> None:
    hurt(Path(store.path) / full.path / name / "zarr.json", how)
    table = make_table(10)
    entry = make_entry(store, table)
    assert not entry.pending(table.fingerprints, np.ones(10, bool)).any()
    np.testing.assert_array_equal(entry.read().values, expected(table.sample_ids))
    assert verify(store) == []
    assert entry.shapes == full.shapes


def test_a_key_of_format_1_is_made_anew_by_an_extraction(tmp_path: Path) -> None:
    migrate(str(shutil.copytree(GOLDEN, tmp_path / "s")))
    store = open_store(str(tmp_path / "s"), mode="a")
    (entry,) = store.find()
    hurt(tmp_path / "s" / entry.path / "zarr.json", "empty")
    (problem,) = verify(store, repair=True)
    assert not problem.repaired
    names = (entry.dataset, entry.variant, entry.backbone)
    again = store.create(*names, entry.key, {"avgpool": (4,)}, {"weights": "hub"})
    assert again.counts() == (21, 1, 0)
    assert set(again.shapes) == {"avgpool", "patches"}
    assert verify(store) == []


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("cls/values", lambda node: node["chunk_grid"]["configuration"].update(chunk_shape=[2, 3])),
        ("cls/values", lambda node: node.update(data_type="bfloat16")),
        ("stamp", lambda node: node.update(data_type="int64")),
        ("check", lambda node: node["chunk_grid"]["configuration"].update(chunk_shape=[8])),
    ],
)
def test_metadata_that_is_not_what_the_key_says_is_found_and_written_anew(full, store, name: str, edit) -> None:
    path = Path(store.path) / full.path / name / "zarr.json"
    before = json.loads(path.read_text())
    node = json.loads(path.read_text())
    edit(node)
    path.write_text(json.dumps(node))
    (problem,) = verify(store)
    assert problem.where.endswith(name)
    assert [problem.repaired for problem in verify(store, repair=True)] == [True]
    assert verify(store) == []
    after = json.loads(path.read_text())
    assert (after["data_type"], after["chunk_grid"]) == (before["data_type"], before["chunk_grid"])


def test_poolings_that_were_edited_are_found_and_the_chunks_kept(full, store) -> None:
    path = Path(store.path) / full.path / "zarr.json"
    node = json.loads(path.read_text())
    node["attributes"]["poolings"] = [["cls", 4]]
    path.write_text(json.dumps(node))
    found = {problem.where.rpartition("/")[2]: problem for problem in verify(store, repair=True)}
    assert found.keys() == {"values", "avg_patch"}
    assert not any(problem.repaired for problem in found.values())
    assert (path.parent / "avg_patch" / "values" / "c" / "0" / "0").exists()


@pytest.mark.parametrize("how", ["empty", "a number", "lost"])
def test_the_root_is_made_anew_from_the_chunks(full, store, expected, how: str) -> None:
    path = Path(store.path) / "zarr.json"
    before = json.loads(path.read_text())
    hurt(path, how)
    with pytest.raises(CorruptStoreError, match=r"the metadata of the store is (lost|damaged).*verify --repair"):
        open_store(store.path)
    again = open_store(store.path, mode="a")
    assert again.block_rows("galaxies") == 4
    assert json.loads(path.read_text())["attributes"] == {"format": "skyprobe", "format_version": 2}
    assert before["attributes"]["block_rows"] == 4
    assert verify(again) == []
    np.testing.assert_array_equal(again.select().read().values, expected(again.sample_ids("galaxies")))


def test_a_root_of_which_nothing_tells_the_block_size_is_refused(store) -> None:
    path = Path(store.path) / "zarr.json"
    hurt(path, "a number")
    for mode in ("r", "a"):
        with pytest.raises(CorruptStoreError, match="Restore it from a copy"):
            open_store(store.path, mode=mode)


@pytest.mark.parametrize("block_rows", ["4", 0])
def test_a_strange_block_size_is_refused(full, store, block_rows) -> None:
    path = Path(store.path) / "datasets" / "galaxies" / "zarr.json"
    node = json.loads(path.read_text())
    node["attributes"]["block_rows"] = block_rows
    path.write_text(json.dumps(node))
    with pytest.raises(CorruptStoreError, match=r"says .* for the rows of a block.*chunks of state arrays"):
        open_store(store.path).find()


@pytest.mark.parametrize("name", ["key", "provenance", "poolings", "sha256"])
@pytest.mark.parametrize("value", [..., 1, None, [1]])
def test_fields_that_are_missing_or_strange_are_the_projects_own_errors(full, store, name: str, value) -> None:
    path = Path(store.path) / full.path / "zarr.json"
    node = json.loads(path.read_text())
    del node["attributes"][name]
    if value is not ...:
        node["attributes"][name] = value
    path.write_text(json.dumps(node))
    if name == "key" and value is ...:
        assert store.find() == [], "as if it were being made"
    elif name != "provenance" or value is ...:
        with pytest.raises(CorruptStoreError):
            store.find()
    assert store.find(skip_damaged=True) == [] or name == "provenance"
    verify(store, repair=True)
    assert verify(store) == [] or name == "provenance"
    assert open_store(store.path).select().counts() == (10, 0, 0)


def test_a_damaged_entry_of_the_cache_counts_as_absent_and_is_written_over(store) -> None:
    store.put_cached("runs", "abc", {"x": np.arange(3)}, {})
    path = Path(store.path) / "derived" / "runs" / "abc" / "zarr.json"
    for text in ("1", "", '{"zarr_format": 3, "node_type": "group", "attributes": {"sha256": 1}}'):
        path.write_text(text)
        assert store.get_cached("runs", "abc") is None
        assert store.list_cached("runs") == (["abc"] if "sha256" in text else [])
    store.put_cached("runs", "abc", {"x": np.arange(3)}, {})
    assert store.get_cached("runs", "abc") is not None


def test_a_store_that_may_not_be_read_says_so(full, store, monkeypatch) -> None:
    def refuse(*args, **options):
        raise PermissionError(13, "Permission denied")

    for owner, name in ((Path, "iterdir"), (os, "scandir")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, refuse)
            with pytest.raises(StoreError, match=r"the store cannot be read: Permission denied.*permissions"):
                verify(store)
    monkeypatch.setattr(zarr.storage._local, "_get", refuse)
    with pytest.raises(StoreError, match=r"the store cannot be read: Permission denied.*permissions"):
        open_store(store.path)
