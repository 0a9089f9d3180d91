"""A store of format 1 becomes one of format 2, wherever that is interrupted, and its features are untouched."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr.storage

from featurestore.errors import StoreError, StoreFormatError
from featurestore.store import open_store
from featurestore.store.layout import writers
from featurestore.store.upkeep.migration import Migrated, migrate
from featurestore.store.verify import verify

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "format-1.json").read_text())


class Killed(BaseException):
    """Nothing catches it."""


@contextmanager
def killed_at(number: int) -> Iterator[list[int]]:
    """Die before file write `number`."""
    put, count = zarr.storage._local._put, [0]

    def fatal(*args, **options):
        if count[0] == number:
            raise Killed
        count[0] += 1
        return put(*args, **options)

    zarr.storage._local._put = fatal
    try:
        yield count
    except Killed:
        pass
    finally:
        zarr.storage._local._put = put


def contents(path: Path) -> dict[str, bytes]:
    files = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return {name: raw for name, raw in files.items() if not name.startswith("writers/")}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "format-1", tmp_path / "s"))


def check_values(path: Path) -> None:
    features = open_store(str(path)).select().read("avgpool")
    np.testing.assert_array_equal(features.values, np.array(EXPECTED["values"]["avgpool"], np.float32))
    assert list(features.table.sample_ids) == EXPECTED["sample_ids"]


def test_features_and_the_cache_stay_byte_for_byte(old) -> None:
    before = contents(old)
    assert migrate(str(old)) == [Migrated("galaxies", 22)]
    after = contents(old)
    assert {name for name in before if before[name] != after.get(name)} == {
        name for name in before if name == "zarr.json" or name.startswith("datasets/galaxies/")
    }
    check_values(old)
    assert verify(open_store(str(old))) == []
    assert open_store(str(old), mode="a").block_rows("galaxies") == 8
    assert migrate(str(old)) == [Migrated("galaxies", 22)]
    assert contents(old) == after
    assert after == contents(GOLDEN / "format-2")


def test_killed_anywhere_it_is_whole_and_goes_on(old, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(writers, "LIMIT_SECONDS", 0.0)  # a real kill leaves its mark, which says nothing a minute later
    with killed_at(10**9) as count:
        migrate(str(old))
    whole = contents(old)
    for number in range(0, count[0], 5):
        path = Path(shutil.copytree(GOLDEN / "format-1", tmp_path / f"k{number}"))
        with killed_at(number):
            migrate(str(path))
        check_values(path)
        migrate(str(path))
        assert contents(path) == whole


def test_a_store_of_format_1_is_read_and_not_written(old) -> None:
    check_values(old)
    with pytest.raises(StoreFormatError, match=f"format version 1, which is only read.*skyprobe migrate --store {old}"):
        open_store(str(old), mode="a")


def test_it_refuses_where_somebody_writes(old) -> None:
    zarr.create_group(str(old / "writers"))
    writes = {"writes": {"datasets/galaxies": time.time()}, "host": "elsewhere", "pid": 7}
    zarr.create_group(str(old / "writers" / "other"), attributes=writes)
    with pytest.raises(StoreError, match=r"process 7 on elsewhere is writing to datasets/galaxies.*migrate again"):
        migrate(str(old))
    check_values(old)


def test_a_damaged_table_is_told_and_mended_by_the_next_extraction(old) -> None:
    table = open_store(str(old)).dataset("galaxies")
    (chunk,) = old.glob("datasets/galaxies/*/stamp/c/0")
    chunk.write_bytes(b"")
    (found,) = migrate(str(old))
    assert (found.rows, found.note.endswith("extract the dataset again, which mends it")) == (0, True)
    store = open_store(str(old), mode="a")
    assert store.put_dataset(table.take(np.arange(22)[::-1])).tolist() == list(range(22))[::-1]
    assert verify(store, repair=True) == []
    check_values(old)


@pytest.mark.parametrize("version", [None, 3])
def test_what_is_no_such_store_is_refused(tmp_path, version) -> None:
    zarr.create_group(str(tmp_path / "s"), attributes={"format": "skyprobe", "format_version": version})
    with pytest.raises(StoreFormatError, match="not a skyprobe store of version 1 or 2"):
        migrate(str(tmp_path / "s"))
