from __future__ import annotations

import errno
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import numpy as np
import pytest
import zarr.storage

from featurestore.errors import CorruptStoreError, MissingDependencyError, StoreWriteError
from featurestore.store.layout.storage import Storage


@pytest.fixture(params=["local", "memory"])
def storage(request, tmp_path: Path) -> Storage:
    path = str(tmp_path / "s") if request.param == "local" else f"memory://{uuid4().hex}"
    return Storage(path, read_only=False)


def contents(storage: Storage, *keys: str, n_bytes: int = 100) -> list[bytes | None]:
    found = {}
    storage.read_files(keys, n_bytes, lambda number, raw: found.update({number: None if raw is None else bytes(raw)}))
    return [found[number] for number in range(len(keys))]


def test_attributes_and_groups(storage: Storage) -> None:
    assert storage.attributes("a/b") is None
    storage.require_group("a/b", {"x": 1})
    storage.require_group("a/b", {"x": 2})
    storage.set_attributes("a/b", {"y": [1, None]})
    storage.set_attributes("a/c", {"z": 3})
    assert storage.attributes("a/b") == {"x": 1, "y": [1, None]}
    assert storage.attributes("a/c") == {"z": 3}
    assert storage.children("a") == ["b", "c"]
    assert storage.children("nowhere") == []


def test_small_arrays(storage: Storage) -> None:
    values = np.arange(12, dtype="<f4").reshape(3, 4)
    storage.put_array("a/x", values, ["row", "column"])
    storage.put_array("a/none", np.zeros((0, 2), dtype="<i8"), ["row", "column"])
    np.testing.assert_array_equal(storage.get_array("a/x"), values)
    assert storage.get_array("a/none").shape == (0, 2)
    chunk, absent = contents(storage, "a/x/c/0/0", "a/x/c/9/0")
    assert chunk[:-4] == values.tobytes()
    assert absent is None


def test_deleting(storage: Storage) -> None:
    storage.put_array("a/x", np.zeros(3), ["row"])
    storage.delete_file("a/x/c/0")
    storage.delete_file("a/x/c/0")
    assert contents(storage, "a/x/c/0") == [None]
    storage.delete("a")
    assert storage.attributes("a") is None
    assert storage.array("a/x") is None


def test_an_array_is_no_group_and_a_group_no_array(storage: Storage) -> None:
    storage.put_array("a/x", np.zeros(3), ["row"])
    assert storage.attributes("a/x") is None
    assert storage.array("a") is None
    with pytest.raises(CorruptStoreError, match="an array is missing"):
        storage.get_array("a")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"zarr_format": 3, "node_type": "group", "attributes": 5}'])
def test_damaged_metadata_is_corrupt(tmp_path: Path, text: str) -> None:
    storage = Storage(str(tmp_path), read_only=True)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "zarr.json").write_text(text)
    with pytest.raises(CorruptStoreError, match=r"unreadable data.*skyprobe verify"):
        storage.attributes("a")


@pytest.mark.parametrize(("code", "reason"), [(errno.EACCES, "Permission denied"), (errno.ENOSPC, "No space left")])
def test_failed_writes_are_explained(tmp_path: Path, monkeypatch, code: int, reason: str) -> None:
    storage = Storage(str(tmp_path / "s"), read_only=False)
    storage.put_array("a", np.zeros(3), ["row"])

    def refuse(path: Path, *args: object, **options: object) -> None:
        raise OSError(code, reason, str(path))

    monkeypatch.setattr(zarr.storage._local, "_put", refuse)
    match = rf"cannot be written: {reason}.*{tmp_path}.*Check permissions and free space"
    for write in (
        lambda: storage.require_group("g"),
        lambda: storage.set_attributes("", {"x": 1}),
        lambda: storage.put_array("a", np.ones(3), ["row"]),
        lambda: storage.put_array("b", np.ones(3), ["row"]),
    ):
        with pytest.raises(StoreWriteError, match=match):
            write()
    np.testing.assert_array_equal(storage.get_array("a"), np.zeros(3))


def test_reading_mode_refuses_writes(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), read_only=True)
    for write in (
        lambda: storage.require_group("g"),
        lambda: storage.put_array("a", np.ones(3), ["row"]),
        lambda: storage.delete("a"),
        lambda: storage.delete_file("a"),
    ):
        with pytest.raises(StoreWriteError, match=r'opened for reading.*mode="a"'):
            write()
    assert list(tmp_path.iterdir()) == []


def test_an_array_made_by_a_faster_process_is_used(tmp_path: Path, monkeypatch) -> None:
    storage = Storage(str(tmp_path), read_only=False)
    storage.require_array("a", (4,), "<i4", (2,), ["row"])
    found = storage.array("a")
    monkeypatch.setattr(storage, "array", lambda path: None)
    assert storage.require_array("a", (4,), "<i4", (2,), ["row"]).metadata == found.metadata


def test_arrays_are_plain_zarr_v3(tmp_path: Path) -> None:
    Storage(str(tmp_path), read_only=False).require_array("a", (4, 3), "float16", (2, 3), ["sample", "feature"])
    metadata = json.loads((tmp_path / "a" / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert [codec["name"] for codec in metadata["codecs"]] == ["bytes", "crc32c"]
    assert metadata["dimension_names"] == ["sample", "feature"]


def test_partial_files_are_found(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), read_only=False)
    storage.put_array("a/x", np.zeros(3), ["row"])
    (tmp_path / "a" / "x" / "c" / "0.1234.partial").write_bytes(b"half")
    assert storage.partial_files() == ["a/x/c/0.1234.partial"]
    assert storage.children("a/x/c") == ["0"]
    assert Storage("memory://nothing", read_only=True).partial_files() == []


def test_what_reaches_object_stores_is_not_installed(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "featurestore.store.layout.backends.objects", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'skyprobe\[s3\]'"):
        Storage("s3://bucket/store.zarr", read_only=True)


def test_bytes_of_a_file(storage: Storage) -> None:
    assert storage.read_bytes("a/b") is None
    storage.replace_bytes("a/b", b"1")
    storage.replace_bytes("a/b", b"22")
    assert storage.read_bytes("a/b") == b"22"
    assert storage.children("a") == ["b"]
    storage.delete_file("a/b")
    assert storage.read_bytes("a/b") is None


def test_of_many_who_create_a_file_one_does(storage: Storage) -> None:
    barrier = Barrier(8)

    def create(number: int) -> bool:
        barrier.wait()
        return storage.create_exclusive("claims/3", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(8)))
    assert sum(made) == 1
    assert storage.read_bytes("claims/3") == str(made.index(True)).encode()
    assert storage.children("claims") == ["3"]
    assert storage.partial_files() == []


@pytest.mark.parametrize("write", ["create_exclusive", "replace_bytes"])
def test_reading_mode_refuses_bytes(tmp_path: Path, write: str) -> None:
    with pytest.raises(StoreWriteError, match="opened for reading"):
        getattr(Storage(str(tmp_path), read_only=True), write)("a", b"1")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_may_be_given_as_a_url(tmp_path: Path) -> None:
    Storage((tmp_path / "a b").as_uri(), read_only=False).replace_bytes("x", b"1")
    assert (tmp_path / "a b" / "x").read_bytes() == b"1"


def test_damage_names_the_command_that_mends_it(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "my store"), read_only=True)
    with pytest.raises(CorruptStoreError, match=r"Run: skyprobe verify --repair --store '\S+/my store'\. Then"):
        storage.get_array("nowhere")


def test_chunks_of_zeros_are_written(storage: Storage) -> None:
    for _ in range(2):
        storage.put_array("a", np.zeros(3, dtype="u1"), ["row"])
        assert contents(storage, "a/c/0")[0][:3] == bytes(3)
        storage.delete_file("a/c/0")


@pytest.mark.parametrize("n_bytes", [0, 20, 28, 100])
def test_files_of_any_size_are_read_whole(storage: Storage, n_bytes: int) -> None:
    keys = []
    for number in range(50):
        storage.put_array(f"x{number}", np.full(3, number, dtype="<f8"), ["row"])
        keys.append(f"x{number}/c/0")
    found = contents(storage, *keys, "nowhere", *keys[::-1], n_bytes=n_bytes)
    assert [None if raw is None else raw[:-4] for raw in found] == [
        *(np.full(3, number, dtype="<f8").tobytes() for number in range(50)),
        None,
        *(np.full(3, number, dtype="<f8").tobytes() for number in reversed(range(50))),
    ]


def test_an_error_while_a_file_is_used_reaches_the_caller(storage: Storage) -> None:
    storage.put_array("x", np.zeros(3), ["row"])
    with pytest.raises(ZeroDivisionError):
        storage.read_files(["x/c/0"] * 100, 28, lambda number, raw: 1 // (number - 70))
