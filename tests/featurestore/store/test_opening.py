from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import zarr
import zarr.storage

from featurestore.errors import StoreError, StoreFormatError, StoreWriteError, UsageError
from featurestore.store import default_store_path, open_store


def test_the_default_path(monkeypatch) -> None:
    monkeypatch.delenv("SKYPROBE_STORE", raising=False)
    assert default_store_path() == "skyprobe.zarr"
    monkeypatch.setenv("SKYPROBE_STORE", "/data/s.zarr")
    assert default_store_path() == "/data/s.zarr"


def test_a_store_keeps_its_block_size(tmp_path: Path, make_table) -> None:
    path = str(tmp_path / "deep" / "s.zarr")
    open_store(path, mode="a", block_rows=7)
    open_store(path, mode="a").put_dataset(make_table(3))
    assert open_store(path).block_rows("galaxies") == 7
    assert json.loads((tmp_path / "deep" / "s.zarr" / "zarr.json").read_text())["attributes"] == {
        "format": "skyprobe",
        "format_version": 2,
        "block_rows": 7,
    }


def test_there_is_no_store_to_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store.*: skyprobe extract first -b dinov2-s --store \S+$"):
        open_store(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_an_empty_folder_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "zarr.12.partial").write_text("killed while it was made")
    open_store(str(tmp_path), mode="a")
    assert open_store(str(tmp_path)).datasets() == []


@pytest.mark.parametrize("mode", ["r", "a"])
@pytest.mark.parametrize("what", ["file", "folder", "zarr array", "zarr group", "zarr v2"])
def test_something_else_is_no_store(tmp_path: Path, what: str, mode: str) -> None:
    path = tmp_path / "x"
    if what == "file":
        path.write_text("hello")
    elif what == "folder":
        (path / "images").mkdir(parents=True)
    elif what == "zarr array":
        zarr.create_array(str(path), shape=(3,), dtype="f4")
    else:
        zarr.create_group(str(path), attributes={"format": "other"}, zarr_format=2 if what == "zarr v2" else 3)
    with pytest.raises(StoreFormatError, match="this is not a skyprobe store"):
        open_store(str(path), mode=mode)


def test_a_newer_format_is_refused(store, store_path: str) -> None:
    zarr.open_group(store_path).attrs["format_version"] = 3
    with pytest.raises(StoreFormatError, match=r"format version 3, this skyprobe reads versions 1 to 2.*upgrade"):
        open_store(store_path, mode="a")


def test_a_block_needs_a_row(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a block of 0 rows"):
        open_store(str(tmp_path / "s"), mode="a", block_rows=0)


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC])
def test_a_store_that_cannot_be_made(tmp_path: Path, monkeypatch, code: int) -> None:
    def refuse(path: Path, *args: object, **options: object) -> None:
        raise OSError(code, "refused", str(path))

    monkeypatch.setattr(zarr.storage._local, "_put", refuse)
    with pytest.raises(StoreWriteError, match=r"cannot be written: refused.*--store"):
        open_store(str(tmp_path / "s"), mode="a")
