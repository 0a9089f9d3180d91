"""Killed between any two writes, a store stays valid, and a resumed run makes the bytes of an uninterrupted one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr.storage

from featurestore.store import FeatureStore, open_store
from featurestore.store.layout import writers
from featurestore.store.verify import verify

BLOCK_ROWS = 4


@pytest.fixture(autouse=True)
def no_mark_lasts(monkeypatch) -> None:
    """A real kill leaves its mark behind; a minute later it says nothing."""
    monkeypatch.setattr(writers, "LIMIT_SECONDS", 0.0)


class Killed(BaseException):
    """Nothing catches it, so that no handler tidies up."""


@contextmanager
def killed_at(number: int) -> Iterator[list[int]]:
    """Die inside file write `number`, half of which stays behind as a `.partial` file."""
    put, count = zarr.storage._local._put, [0]

    def fatal(path: Path, value: Any, exclusive: bool = False) -> int:
        if count[0] == number:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".0123.partial").write_bytes(bytes(value.as_buffer_like())[:7])
            raise Killed
        count[0] += 1
        return put(path, value, exclusive)

    zarr.storage._local._put = fatal
    try:
        yield count
    except Killed:
        pass
    finally:
        zarr.storage._local._put = put


def contents(path: str | Path) -> dict[str, bytes]:
    root = Path(path)
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


@pytest.fixture
def job(make_table, make_entry, fill) -> Callable[[str], None]:
    """An extraction into an existing store: a grown dataset with two changed images and one unreadable."""

    def run(path: str) -> None:
        store = open_store(path, mode="a", block_rows=BLOCK_ROWS)
        table = make_table(6)
        table.fingerprints[[1, 4]] += np.uint64(1)
        rows = store.put_dataset(table)
        arrays = make_entry(store, table)
        arrays.add_request("request")
        fill(arrays, table, rows, version=1)

    return run


@pytest.fixture
def prepared(tmp_path: Path, make_table, make_entry, fill) -> Callable[[str], str]:
    """A store with a complete first extraction of five samples."""

    def make(name: str) -> str:
        store = open_store(str(tmp_path / name), mode="a", block_rows=BLOCK_ROWS)
        table = make_table(5)
        fill(make_entry(store, table), table)
        return store.path

    return make


def assert_valid(store: FeatureStore, expected: Any) -> None:
    """Whatever says done is right: the old or the new features of a row, never a mixture or zeros."""
    for arrays in store.find():
        for pooling in arrays.shapes:
            features = arrays.read(pooling, allow_partial=True)
            names = features.table.sample_ids
            old, new = expected(names, pooling), expected(names, pooling, version=1)
            assert ((features.values == old).all(axis=1) | (features.values == new).all(axis=1)).all()
            # A row whose stored image is the new one must hold the new features.
            fingerprints = zarr.open_array(f"{store.path}/{arrays.path}/stamp")[:]
            current = {
                name: fingerprints[row]
                for row, name in enumerate(store.sample_ids("galaxies"))
                if row < len(fingerprints)
            }
            fresh = [row for row, name in enumerate(names) if current[name] == features.table.fingerprints[row]]
            changed = [row for row in fresh if names[row][-7:-4] in {"001", "004"}]
            if len(features.table.fingerprints) == 6:
                np.testing.assert_array_equal(features.values[changed], new[changed])


def test_a_kill_at_any_write_is_harmless(prepared, job, expected, tmp_path: Path) -> None:
    start, whole = prepared("start"), str(tmp_path / "whole")
    shutil.copytree(start, whole)
    with killed_at(10**9) as count:
        job(whole)
    writes, wanted = count[0], contents(whole)
    assert writes > 20
    for number in range(writes):
        path = str(tmp_path / f"k{number}")
        shutil.copytree(start, path)
        with killed_at(number) as count:
            job(path)
        assert count[0] == number
        assert_valid(open_store(path), expected)
        job(path)
        assert all(problem.repaired for problem in verify(open_store(path, mode="a")))
        assert contents(path) == wanted
    assert verify(open_store(whole)) == []


def test_a_kill_while_the_first_store_is_made(job, expected, tmp_path: Path) -> None:
    whole = str(tmp_path / "whole")
    with killed_at(10**9) as count:
        job(whole)
    for number in range(0, count[0], 11):
        path = str(tmp_path / f"k{number}")
        with killed_at(number):
            job(path)
        job(path)
        verify(open_store(path, mode="a"))
        assert contents(path) == contents(whole)


def test_a_kill_while_features_are_removed(prepared, monkeypatch) -> None:
    store = open_store(prepared("x"), mode="a")
    (arrays,) = store.find()

    def half(path: str) -> None:
        for file in sorted((Path(store.path) / path).rglob("0"))[:5]:
            if file.is_file():
                file.unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store.storage, "delete", half)
        with pytest.raises(Killed):
            store.remove(arrays)
    assert open_store(store.path).find() == []
    assert [problem.repaired for problem in verify(store)] == [True]
    assert not (Path(store.path) / arrays.path).exists()


_CHILD = """
import os, sys, signal, hashlib
import numpy as np, zarr.storage
from featurestore.store.layout.block_commit import Block
from featurestore.store import open_store

path, number = sys.argv[1], int(sys.argv[2])
store = open_store(path, mode="a")
arrays = store.select()
put, count = zarr.storage._local._put, [0]

def fatal(*args, **options):
    if count[0] == number:
        os.kill(os.getpid(), signal.SIGKILL)
    count[0] += 1
    return put(*args, **options)

zarr.storage._local._put = fatal
block = Block(
    {"cls": np.full((4, 3), 9.0, np.float32), "avg_patch": np.full((4, 5), 9.0, np.float32)},
    np.ones(4, np.uint8), np.ones((4, 16), np.uint8), np.ones(4, np.uint64),
    sample_hashes=store.dataset("galaxies").id_hashes[:4],
)
arrays.write_block(0, block)
"""


@pytest.mark.parametrize("number", [2, 3, 5, 8])
def test_a_real_kill(prepared, expected, number: int) -> None:
    path = prepared("x")
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, path, str(number)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert child.returncode == -9, child.stderr
    (arrays,) = open_store(path).find()
    for pooling in ("cls", "avg_patch"):
        features = arrays.read(pooling, allow_partial=True)
        old = expected(features.table.sample_ids, pooling)
        assert ((features.values == old) | (features.values == 9)).all()
    assert arrays.counts().missing == 4


def test_two_writers_of_different_blocks_lose_nothing(store, make_table, make_entry, make_block, expected) -> None:
    table = make_table(40)
    make_entry(store, table)

    def work(part: int) -> None:
        own = open_store(store.path, mode="a").select()
        for block in range(part, 10, 2):
            own.write_block(block, make_block(table.sample_ids[block * 4 : block * 4 + 4]))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [0, 1]))
    for pooling in ("cls", "avg_patch"):
        np.testing.assert_array_equal(store.select().read(pooling).values, expected(table.sample_ids, pooling))
    assert verify(store) == []


def test_two_processes_may_begin_the_same_extraction(tmp_path: Path, make_table, make_entry, fill, expected) -> None:
    path, table = str(tmp_path / "s"), make_table(10, boxes=True)

    def begin(n: int) -> None:
        make_entry(open_store(path, mode="a", block_rows=BLOCK_ROWS), make_table(n, boxes=True))

    with ThreadPoolExecutor(4) as pool:
        for n in (3, 10):  # a new store, then a dataset that grows
            list(pool.map(begin, [n] * 4))
    store = open_store(path, mode="a")
    fill(store.select(), table)
    np.testing.assert_array_equal(store.select().read().values, expected(table.sample_ids))
    assert verify(store) == []
