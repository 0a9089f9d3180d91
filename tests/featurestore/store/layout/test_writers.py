from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from featurestore.store.layout.storage import Storage
from featurestore.store.layout.writers import LIMIT_SECONDS, REFRESH_SECONDS, WriterMark, find_owned, owner_of, touches


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("features/galaxies/full-224/dino/0123/cls/values/c/0/0", "features/galaxies/full-224/dino/0123"),
        ("datasets/galaxies/0123/stamp/zarr.json", "datasets/galaxies"),
        ("derived/runs/0123/x/c/0", "derived/runs"),
        ("zarr.json", "zarr.json"),
        ("", ""),
    ],
)
def test_what_is_owned_as_a_whole(path: str, owner: str) -> None:
    assert owner_of(path) == owner


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("zarr.1.partial", True),
        ("features/zarr.1.partial", True),
        ("features/a/b/c/d/cls/values/c/0/0.1.partial", True),
        ("features/a/b/c/d2/zarr.1.partial", False),
        ("features/a/b2/zarr.1.partial", False),
        ("datasets/a/zarr.1.partial", False),
    ],
)
def test_files_in_and_above_what_is_written_are_left_alone(file: str, found: bool) -> None:
    assert touches(file, ["features/a/b/c/d"]) == found
    assert not touches(file, [])


def test_a_mark_is_renewed_while_writing_goes_on_and_forgets_what_was_left() -> None:
    written, clock = [], [1000.0]
    mark = WriterMark(
        lambda path, attributes: written.append((path, dict(attributes.get("writes", {})))),
        lambda path: None,
        lambda: clock[0],
    )
    for seconds, path in [(0, "features/a/b/c/d/x"), (1, "features/a/b/c/d/y"), (2, "derived/runs/1"), (3, "")]:
        clock[0] = 1000.0 + seconds
        mark.touch(path)
    key = "features/a/b/c/d"
    marks = [writes for path, writes in written if path == f"writers/{mark.name}"]
    assert marks == [{key: 1000.0}, {key: 1000.0, "derived/runs": 1002.0}]
    clock[0] = 1000.0 + REFRESH_SECONDS
    mark.touch(key)
    assert written[-1] == (f"writers/{mark.name}", {key: clock[0], "derived/runs": 1002.0})
    clock[0] = 1002.0 + LIMIT_SECONDS
    mark.touch(key)
    assert written[-1][1].keys() == {key}


def test_a_mark_says_nothing_any_more_when_it_is_old_or_strange() -> None:
    mark = {"host": "here", "pid": 7, "writes": {"derived/runs": 100.0}}
    assert find_owned(mark, 100.0 + LIMIT_SECONDS - 1) == {"derived/runs": "process 7 on here"}
    assert find_owned(mark, 100.0 + LIMIT_SECONDS) == {}
    for strange in ({}, {"writes": 3}, {"writes": {"derived/runs": "now"}}):
        assert find_owned(strange, 100.0) == {}


def test_a_storage_marks_what_it_writes_and_others_see_it(tmp_path: Path) -> None:
    one, other = (Storage(str(tmp_path), read_only=read_only) for read_only in (False, True))
    one.put_array("derived/runs/1/x", np.ones(3), ["row"])
    assert list(other.owners()) == ["derived/runs"]
    assert one.owners() == {}, "its own mark is none of another writer"
    one.end_writing()
    assert other.owners() == {}
    assert [path.name for path in (tmp_path / "writers").iterdir()] == ["zarr.json"]
    one.set_attributes("derived/runs/1", {"x": 1})
    assert list(other.owners()) == ["derived/runs"]
    del one
    assert other.owners() == {}, "a writer that is gone takes its mark along"


def test_marks_of_killed_writers_are_swept_when_they_have_expired(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), read_only=False)
    storage.rewrite_group("writers/old", {"host": "h", "pid": 1, "writes": {"derived/runs": 1.0}})
    storage.rewrite_group("writers/young", {"host": "h", "pid": 1, "writes": {"derived/runs": time.time()}})
    (tmp_path / "writers" / "just_begun").mkdir()
    storage.sweep_marks()
    assert {path.name for path in (tmp_path / "writers").iterdir()} - {"zarr.json", storage._mark.name} == {
        *("young", "just_begun")
    }
