"""A damaged sample table is written anew by whoever has the right one in hand, and rows keep their place."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import CorruptStoreError
from featurestore.store import open_store
from featurestore.store.verify import verify


def revision_of(store) -> Path:
    folder = Path(store.path) / "datasets" / "galaxies"
    (found,) = (path for path in folder.iterdir() if path.is_dir() and path.name != "columns")
    return found


def file_of(store, name: str) -> Path:
    """A file of the revision, or of the only segment of a column."""
    if name.endswith("zarr.json") and "/" not in name.removeprefix("../"):
        return revision_of(store) / name
    column, _, rest = name.partition("/")
    (segment,) = (path for path in (revision_of(store).parent / "columns" / column).iterdir() if path.is_dir())
    return segment / rest


@pytest.fixture
def grown(full, store, make_table, fill):
    """A dataset whose rows are not in the order of its source: sample 3 has gone, two came first."""
    names = make_table(12).sample_ids
    table = make_table((*names[10:], *names[:3], *names[4:10]))
    rows = store.put_dataset(table)
    entry = store.create(full.dataset, full.variant, full.backbone, full.key, full.shapes, {})
    fill(entry, table, rows)
    return table


def check_healed(store, table, expected) -> None:
    again = open_store(store.path, mode="a")
    again.put_dataset(table, check=True)
    assert verify(again, repair=True) == []
    features = again.select().read()
    np.testing.assert_array_equal(features.values, expected(features.table.sample_ids))
    assert sorted(features.table.sample_ids) == sorted(table.sample_ids)


@pytest.mark.parametrize("name", ["zarr.json", "stamp/c/0", "sample_hash/c/0", "sample_id/c/0/0"])
@pytest.mark.parametrize("how", ["empty", "lost"])
def test_any_damage_heals_and_nothing_is_computed_again(full, store, make_table, expected, name, how) -> None:
    path = file_of(store, name)
    path.unlink() if how == "lost" else path.write_bytes(b"")
    fresh = open_store(store.path)
    assert verify(fresh)
    if not name.startswith("sample_hash"):  # which only finds rows by their ids: the table is right without it
        with pytest.raises(CorruptStoreError):
            fresh.tables.stored("galaxies").table  # noqa: B018
    check_healed(store, make_table(10), expected)
    assert open_store(store.path).select().counts() == (10, 0, 0)


@pytest.mark.parametrize("name", ["zarr.json", "stamp/c/0", "../zarr.json"])
def test_rows_keep_their_place_where_the_ids_are_intact(store, grown, expected, name) -> None:
    file_of(store, name).write_text("")
    before = store.sample_ids("galaxies") if name != "../zarr.json" else None
    check_healed(store, grown, expected)
    assert before is None or open_store(store.path).sample_ids("galaxies") == before


@pytest.mark.parametrize("gone", ["sample_id"])
def test_rows_keep_their_place_where_only_the_features_know_the_ids(store, grown, expected, gone) -> None:
    shutil.rmtree(revision_of(store).parent / "columns" / gone)
    (revision_of(store) / "zarr.json").write_text("")
    again = open_store(store.path, mode="a")
    again.put_dataset(grown, check=True)
    assert again.sample_ids("galaxies")[3] == "lost: row 3"
    features = again.select().read()
    np.testing.assert_array_equal(features.values, expected(features.table.sample_ids))
    assert len(features.table) == len(grown)


def test_a_damaged_table_is_told_with_what_mends_it(full, store) -> None:
    file_of(store, "stamp/c/0").write_bytes(b"")
    with pytest.raises(CorruptStoreError, match=r"the sample table is damaged.*Extract the dataset again"):
        open_store(store.path).dataset("galaxies")
    problems = verify(open_store(store.path))
    assert "extract the dataset again, which mends it" in problems[0].what


def test_features_of_a_damaged_dataset_can_be_removed(full, store) -> None:
    (revision_of(store) / "zarr.json").write_text("")
    (revision_of(store).parent / "zarr.json").write_text("1")
    again = open_store(store.path, mode="a")
    assert again.datasets() == ["galaxies"]
    (entry,) = again.find("galaxies")
    again.remove(entry)
    assert again.find() == []
