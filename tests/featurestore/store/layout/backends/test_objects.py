from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from featurestore.errors import StoreError, StoreWriteError
from featurestore.store.layout.storage import Storage

NAMES = "features/a b/resize=224,crop=box%3A0.2/timm%3Aresnet18~1@x+y"


@pytest.fixture
def storage(bucket: str) -> Storage:
    return Storage(f"s3://{bucket}/folder/s.zarr", read_only=False)


def read(storage: Storage, *keys: str) -> list[bytes | None]:
    found = {}
    storage.read_files(keys, 100, lambda number, raw: found.update({number: None if raw is None else bytes(raw)}))
    return [found[number] for number in range(len(keys))]


def disturb(object_server, method: str, sign: str, *faults) -> list:
    """Let faults befall the first requests that match; returns those that are yet to come."""
    left = list(faults)
    object_server.proxy.choose = lambda verb, path: left.pop(0) if left and verb == method and sign in path else None
    return left


def test_keys_are_as_they_are_on_a_disk(storage: Storage, object_server, bucket: str) -> None:
    storage.replace_bytes(f"{NAMES}/x", b"1")
    storage.end_writing()
    found = object_server.contents(bucket, "folder/s.zarr")
    assert found.keys() == {f"{NAMES}/x", "writers/zarr.json"}
    assert found[f"{NAMES}/x"] == b"1"
    assert storage.children(NAMES) == ["x"]
    assert storage.children("features/a") == []


def test_many_objects_are_read_and_deleted(storage: Storage) -> None:
    keys = [f"{NAMES}/{number}" for number in range(40)]
    for key in keys:
        storage.replace_bytes(key, key.encode())
    assert read(storage, *keys, "nowhere") == [*(key.encode() for key in keys), None]
    assert storage.has_chunks("features")
    storage.delete("features")
    assert storage.children("features") == []
    assert not storage.has_chunks("features")


@pytest.mark.parametrize("faults", [[500, 500], [503, 503], ["reset", "lost"], ["cut", "cut"], ["slow"]])
def test_disturbed_reads_are_repeated(storage: Storage, object_server, faults) -> None:
    value = np.arange(200_000, dtype="u1").tobytes()
    storage.replace_bytes("x", value)
    left = disturb(object_server, "GET", "/s.zarr/x", *faults)
    assert storage.read_bytes("x") == value
    assert left == []


@pytest.mark.parametrize("fault", ["cut", "lost", "reset", 503])
def test_a_disturbed_answer_that_there_is_nothing(storage: Storage, object_server, fault) -> None:
    left = disturb(object_server, "GET", "/s.zarr/x", fault, fault)
    assert storage.read_bytes("x") is None
    assert left == []
    left = disturb(object_server, "GET", "/s.zarr/a/zarr.json", fault, fault)
    assert storage.attributes("a") is None
    assert left == []


@pytest.mark.parametrize("faults", [[409, 409], [500, 500], [503, 503], ["reset", "lost"], ["slow"]])
def test_disturbed_writes_are_repeated(storage: Storage, object_server, faults) -> None:
    left = disturb(object_server, "PUT", "/s.zarr/x", *faults)
    storage.replace_bytes("x", b"1" * 100_000)
    assert left == []
    assert storage.read_bytes("x") == b"1" * 100_000


@pytest.mark.parametrize("fault", [409, 500, 503, "reset", "lost"])
def test_a_file_is_created_once_whatever_becomes_of_the_answer(storage: Storage, object_server, fault) -> None:
    left = disturb(object_server, "PUT", "/s.zarr/claim", fault)
    assert storage.create_exclusive("claim", b"mine")
    assert left == []
    assert not storage.create_exclusive("claim", b"another's")
    assert storage.read_bytes("claim") == b"mine"


def test_of_many_who_create_an_object_one_does(storage: Storage, bucket: str) -> None:
    barrier = Barrier(8)

    def create(number: int) -> bool:
        barrier.wait()
        return storage.create_exclusive("claim", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(8)))
    assert sum(made) == 1
    assert storage.read_bytes("claim") == str(made.index(True)).encode()


def test_large_objects_go_in_parts_and_are_whole_or_absent(storage: Storage, object_server, bucket: str) -> None:
    value = np.random.default_rng(0).bytes(12_000_000)
    left = disturb(object_server, "PUT", "partNumber=2", 503, "reset")
    storage.replace_bytes("x", value)
    assert left == []
    assert storage.read_bytes("x") == value
    assert object_server.uploads(bucket) == 0
    parts = [request for request in object_server.proxy.requests if "partNumber" in request.path]
    assert max(request.sent for request in parts) < 6_000_000


def test_a_server_that_denies_is_reported(storage: Storage, object_server) -> None:
    object_server.proxy.choose = lambda method, path: 403 if "/s.zarr/x" in path else None
    with pytest.raises(StoreWriteError, match=r"cannot be written: access to s3://.* is denied.*right to list"):
        storage.replace_bytes("x", b"1")
    with pytest.raises(StoreError, match=r"cannot be read: access to s3://.* is denied"):
        storage.read_bytes("x")
    with pytest.raises(StoreError, match=r"cannot be read: access to s3://.* is denied"):
        read(storage, "x")


def test_the_mark_of_a_writer_goes_with_it(storage: Storage, object_server, bucket: str) -> None:
    storage.replace_bytes("features/a/b/c/d/x", b"1")
    assert len(Storage(storage.path, read_only=True).owners()) == 1
    storage.end_writing()
    assert Storage(storage.path, read_only=True).owners() == {}
    assert object_server.contents(bucket, "folder/s.zarr").keys() == {"features/a/b/c/d/x", "writers/zarr.json"}
