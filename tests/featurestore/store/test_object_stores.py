"""A store in a bucket has the bytes of one on a disk, whatever befalls its requests and its writers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.errors import StoreFormatError, StoreWriteError
from featurestore.store import FeatureStore, is_store, open_store
from featurestore.store.layout import writers
from featurestore.store.layout.claims import Claims
from featurestore.store.layout.storage import Storage
from featurestore.store.verify import verify

BLOCK_ROWS = 4


@pytest.fixture
def job(make_table, make_entry, fill) -> Callable[[str], FeatureStore]:
    """An extraction of six samples, the second of a grown dataset with a changed image."""

    def run(path: str) -> FeatureStore:
        store = open_store(path, mode="a", block_rows=BLOCK_ROWS)
        table = make_table(6)
        rows = store.put_dataset(table)
        entry = make_entry(store, table)
        fill(entry, table, rows)
        store.put_cached("runs", "0123", {"x": np.arange(3.0)}, {"y": 1})
        store.close()
        return store

    return run


def on_disk(path: Path) -> dict[str, bytes]:
    files = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return {key: raw for key, raw in files.items() if not key.startswith("writers/")}


def in_bucket(object_server, bucket: str) -> dict[str, bytes]:
    files = object_server.contents(bucket, "s.zarr")
    return {key: raw for key, raw in files.items() if not key.startswith("writers/")}


def test_a_bucket_and_a_disk_hold_the_same_bytes(job, object_server, bucket: str, tmp_path: Path) -> None:
    job(str(tmp_path / "s"))
    store = job(f"s3://{bucket}/s.zarr")
    assert in_bucket(object_server, bucket) == on_disk(tmp_path / "s")
    assert verify(open_store(store.path)) == []
    (entry,) = open_store(store.path).find()
    assert entry.counts().done == 6
    store.remove(entry)
    assert open_store(store.path).find() == []


FAULTS = st.lists(st.sampled_from([None, None, None, 500, 503, "reset", "lost", "cut"]), min_size=1, max_size=7)


@pytest.mark.torture
@given(faults=FAULTS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_disturbances_leave_no_trace(job, object_server, tmp_path_factory, faults: list) -> None:
    _compare_disturbed(job, object_server, tmp_path_factory.mktemp("s"), faults)


def test_disturbances_leave_no_trace(job, object_server, tmp_path: Path) -> None:
    _compare_disturbed(job, object_server, tmp_path, [500, 503, "reset", "cut", "lost"])


def _compare_disturbed(job, object_server, folder: Path, faults: list) -> None:
    bucket = f"b-{uuid4().hex[:12]}"
    object_server.make_bucket(bucket)
    count = [0]

    def choose(method: str, path: str):
        count[0] += 1
        fault = faults[count[0] // 11 % len(faults)] if count[0] % 11 == 0 else None
        return None if fault == "cut" and method != "GET" else fault

    object_server.proxy.choose = choose
    job(f"s3://{bucket}/s.zarr")
    object_server.proxy.choose = lambda method, path: None
    job(str(folder / "s"))
    assert in_bucket(object_server, bucket) == on_disk(folder / "s")


_CHILD = """
import sys, numpy as np
from featurestore.store import open_store
from featurestore.store.layout.block_commit import Block

store = open_store(sys.argv[1], mode="a")
ids = store.dataset("galaxies").id_hashes
for block in range(2):
    rows = slice(4 * block, 4 * block + 4)
    n = len(ids[rows])
    values = {name: np.full((n, width), 9.0, np.float32) for name, width in (("cls", 3), ("avg_patch", 5))}
    store.select().write_block(block, Block(
        values, np.ones(n, np.uint8), np.ones((n, 16), np.uint8), np.ones(n, np.uint64), sample_hashes=ids[rows],
    ))
"""


def _write_in_child(path: str) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[3]
    return subprocess.Popen([sys.executable, "-c", _CHILD, path], cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize(
    "number", [9, *(pytest.param(number, marks=pytest.mark.torture) for number in range(0, 22, 3))]
)
def test_a_kill_in_mid_upload(job, expected, object_server, bucket: str, monkeypatch, number: int) -> None:
    """The process dies while half of an object is under way: rows that say done are whole, old or new."""
    monkeypatch.setattr(writers, "LIMIT_SECONDS", 0.0)
    path = f"s3://{bucket}/s.zarr"
    job(path)
    before, seen, children = in_bucket(object_server, bucket), [0], []

    def choose(method: str, path: str):
        seen[0] += method == "PUT" and "/features/" in path
        return "half" if method == "PUT" and "/features/" in path and seen[0] == number + 1 else None

    object_server.proxy.choose, object_server.proxy.on_half = choose, lambda: os.kill(children[0].pid, 9)
    children.append(_write_in_child(path))
    assert children[0].wait(60) == -9
    object_server.proxy.choose = lambda method, path: None
    (entry,) = open_store(path).find()
    for pooling in entry.shapes:
        features = entry.read(pooling, allow_partial=True)
        old = expected(features.table.sample_ids, pooling)
        assert ((features.values == old) | (features.values == 9)).all()
    job(path)
    assert [problem for problem in verify(open_store(path, mode="a")) if not problem.repaired] == []
    assert in_bucket(object_server, bucket) == before


def test_a_store_that_may_only_be_read_is_refused_when_it_is_opened(object_server, bucket: str) -> None:
    path = open_store(f"s3://{bucket}/s.zarr", mode="a").path
    object_server.proxy.choose = lambda method, path: 403 if method == "PUT" else None
    assert open_store(path).datasets() == []
    with pytest.raises(StoreWriteError, match=r"cannot be written: access to s3://.* is denied.*right to list, read"):
        open_store(path, mode="a")
    with pytest.raises(StoreWriteError, match=r"cannot be written: access to s3://.* is denied"):
        open_store(f"s3://{bucket}/new.zarr", mode="a")


@pytest.mark.parametrize("key", ["part-0.parquet", ".zgroup", "c/0/0"])
def test_what_another_program_wrote_is_left_alone(object_server, bucket: str, key: str) -> None:
    object_server.put(f"/{bucket}/s.zarr/{key}", b"{}")
    for mode in ("r", "a"):
        with pytest.raises(StoreFormatError, match=r"not a skyprobe store \[s3://.*s.zarr\].*--store"):
            open_store(f"s3://{bucket}/s.zarr", mode=mode)
    assert object_server.contents(bucket, "s.zarr") == {key: b"{}"}


def test_whether_there_is_a_store(bucket: str) -> None:
    assert not is_store(f"s3://{bucket}/s.zarr")
    assert is_store(open_store(f"s3://{bucket}/s.zarr", mode="a").path)


def test_a_block_of_a_large_store_goes_in_parts(object_server, bucket: str) -> None:
    """Values of 8 MB and more are sent in several requests, and come back the same."""
    storage = Storage(f"s3://{bucket}/s.zarr", read_only=False)
    values = np.random.default_rng(0).normal(size=(4096, 512)).astype("f4")
    storage.put_array("x", values, ["row", "feature"])
    np.testing.assert_array_equal(storage.get_array("x"), values)
    assert sum("partNumber" in request.path for request in object_server.proxy.requests) == 2


@pytest.mark.parametrize("fault", [None, 409, 503, "lost", "reset"])
def test_of_two_writers_one_has_the_claim_of_a_block(object_server, bucket: str, fault) -> None:
    url, left = f"s3://{bucket}/s.zarr", [fault]
    one, other = (Claims(Storage(url, read_only=False)) for _ in range(2))
    object_server.proxy.choose = lambda method, path: (
        left.pop() if left and method == "PUT" and "/claims/" in path and not path.endswith(".alive") else None
    )
    with one, other:
        assert one.acquire("features/x", 3)
        assert left == []
        assert not other.acquire("features/x", 3)
        assert other.acquire("features/x", 4)
        one.release("features/x", 3)
        assert other.acquire("features/x", 3)
    left_over = [key for key in object_server.contents(bucket, "s.zarr") if key.startswith("claims/")]
    assert left_over == ["claims/zarr.json"]
