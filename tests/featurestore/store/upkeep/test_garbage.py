"""What nothing refers to is found and deleted; what is used, or is being written, is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import StoreWriteError
from featurestore.store import open_store
from featurestore.store.dependants import KEYS, list_keys
from featurestore.store.upkeep.garbage import collect_garbage
from featurestore.store.verify import verify


@pytest.fixture
def littered(full, store, make_table):
    """One piece of garbage of every kind, beside what is used."""
    root = Path(store.path)
    used = {KEYS: list_keys(full.key), "dataset": full.dataset}
    gone = {KEYS: ["ab" * 32], "dataset": full.dataset}
    for kind in ("runs", "heads", "projection"):
        store.put_cached(kind, "used", {"x": np.arange(3)}, used)
        store.put_cached(kind, "gone", {"x": np.arange(3)}, gone)
    store.put_cached("gallery", "kept", {"x": np.arange(3)}, gone)
    store.put_cached("runs", "unstated", {"x": np.arange(3)}, {})
    store.storage.put_array("derived/heads/half/x", np.ones(3), ["x_0"])
    store.storage.put_array("datasets/galaxies/columns/stamp/" + "0" * 32, np.ones(3), ["sample"])
    store.storage.require_group("datasets/galaxies/0123456789abcdef")
    store.storage.require_group("features/galaxies/full-224/dino/0123456789ab")
    store.storage.require_group("writers/gone", {"writes": {"derived/runs": 0.0}, "pid": 1, "host": "x"})
    (root / full.path / "cls" / "values" / "c" / "0" / "0.77.partial").write_bytes(b"half")
    store.close()
    return store


GARBAGE = {
    "datasets/galaxies/0123456789abcdef",
    "datasets/galaxies/columns/stamp/" + "0" * 32,
    "derived/heads/gone",
    "derived/heads/half",
    "derived/projection/gone",
    "derived/runs/gone",
    "features/galaxies/full-224/dino/0123456789ab",
    "writers/gone",
}


def files(store) -> set[str]:
    root = Path(store.path)
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith("writers/")}


def test_it_is_listed_then_deleted(littered, full, expected) -> None:
    reader, before = open_store(littered.path), files(littered)
    listed = {one.path for one in collect_garbage(reader, dry_run=True)}
    partial = {path for path in listed if path.endswith(".partial")}
    assert (listed - partial, len(partial)) == (GARBAGE, 1)
    assert files(littered) == before
    with pytest.raises(StoreWriteError):
        collect_garbage(reader)
    writer = open_store(littered.path, mode="a")
    assert {one.path for one in collect_garbage(writer)} == listed
    assert collect_garbage(writer) == []
    assert {name for name in before - files(littered) if not name.startswith(tuple(listed))} == set()
    assert writer.list_cached("runs") == ["unstated", "used"]
    assert writer.list_cached("gallery") == ["kept"]
    np.testing.assert_array_equal(writer.select().read().values, expected(writer.sample_ids("galaxies")))
    assert verify(writer) == []


def test_what_somebody_is_writing_to_is_left_alone(littered, make_table) -> None:
    writing = open_store(littered.path, mode="a")
    with writing.storage.writing("datasets/galaxies"), writing.storage.writing("derived/heads/x"):
        left = {one.path for one in collect_garbage(open_store(littered.path, mode="a"))}
    assert GARBAGE - left == {path for path in GARBAGE if path.startswith(("datasets/galaxies", "derived/heads"))}
    writing.close()
    assert {one.path for one in collect_garbage(open_store(littered.path, mode="a"))} == GARBAGE - left


def test_results_are_not_judged_where_features_cannot_be_understood(littered, full) -> None:
    (Path(littered.path) / full.path / "zarr.json").write_text("{")
    found = {one.path for one in collect_garbage(open_store(littered.path, mode="a"))}
    assert not found & {"derived/heads/gone", "derived/runs/gone", "derived/projection/gone"}
