from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr.storage

from featurestore.errors import UsageError
from featurestore.store import open_store

ARRAYS = {
    "probabilities": np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2),
    "classes/all": np.array([0, 1]),
    "mask": np.array([True, False]),
    "scalar": np.array(2.5),
    "none": np.zeros((0, 4)),
}
ATTRIBUTES = {"params": {"C": 0.1, "solver": "lbfgs"}, "seconds": 1.5, "names": ["é", None]}


def test_entries_come_back(store) -> None:
    assert store.get_cached("runs", "abc") is None
    store.put_cached("runs", "abc", ARRAYS, ATTRIBUTES)
    found = open_store(store.path).get_cached("runs", "abc")
    assert found.attributes == ATTRIBUTES
    assert list(found.arrays) == list(ARRAYS)
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], values)
        assert found.arrays[name].dtype == values.dtype
    assert store.get_cached("runs", "abd") is None


def test_entries_are_replaced_whole(store) -> None:
    store.put_cached("runs", "abc", ARRAYS, ATTRIBUTES)
    store.put_cached("runs", "abc", {"x": np.arange(3)}, {"new": 1})
    found = store.get_cached("runs", "abc")
    assert list(found.arrays) == ["x"]
    assert found.attributes == {"new": 1}


def test_entries_are_listed(store) -> None:
    assert store.list_cached("runs") == []
    for name in ("b", "a"):
        store.put_cached("runs", name, {}, {})
    store.put_cached("projection", "c", {}, {})
    assert store.list_cached("runs") == ["a", "b"]


@pytest.mark.parametrize("name", ["probabilities", "mask"])
def test_a_damaged_entry_is_absent(store, damage, name: str) -> None:
    store.put_cached("runs", "abc", ARRAYS, ATTRIBUTES)
    chunk = next(path for path in (Path(store.path) / "derived/runs/abc" / name / "c").rglob("*") if path.is_file())
    damage(chunk)
    assert store.get_cached("runs", "abc") is None
    store.put_cached("runs", "abc", ARRAYS, ATTRIBUTES)
    assert store.get_cached("runs", "abc") is not None


def test_an_edited_entry_is_absent(store) -> None:
    store.put_cached("runs", "abc", ARRAYS, ATTRIBUTES)
    record = store.storage.attributes("derived/runs/abc")
    store.storage.set_attributes("derived/runs/abc", {"attributes": record["attributes"] | {"seconds": 2}})
    assert store.get_cached("runs", "abc") is None


def test_a_kill_at_any_write_leaves_no_entry(store, monkeypatch) -> None:
    class Killed(BaseException):
        pass

    put, count = zarr.storage._local._put, [0, -1]

    def fatal(*args, **options):
        count[0] += 1
        if count[0] == count[1]:
            raise Killed
        return put(*args, **options)

    store.put_cached("runs", "first", ARRAYS, ATTRIBUTES)  # with the mark of the writer
    monkeypatch.setattr(zarr.storage._local, "_put", fatal)
    store.put_cached("runs", "whole", ARRAYS, ATTRIBUTES)
    writes = count[0]
    for number in range(1, writes):
        count[:] = [0, number]
        with pytest.raises(Killed):
            store.put_cached("runs", f"k{number}", ARRAYS, ATTRIBUTES)
        assert store.get_cached("runs", f"k{number}") is None
    assert store.list_cached("runs") == ["first", "whole"]


def test_text_belongs_into_attributes(store) -> None:
    with pytest.raises(UsageError, match=r"the array 'names' has the type <U1.*attributes"):
        store.put_cached("runs", "abc", {"names": np.array(["a"])}, {})
