from __future__ import annotations

import errno
from pathlib import Path

import pytest

from featurestore.errors import StoreWriteError
from featurestore.store import open_store
from featurestore.store.layout.backends import local
from featurestore.store.layout.backends.local import LocalFiles


def test_a_file_is_created_where_there_are_no_links(tmp_path: Path, monkeypatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(local.os, "link", refuse)
    files = LocalFiles(tmp_path, read_only=False)
    assert files.create_exclusive("claims/1", b"mine")
    assert not files.create_exclusive("claims/1", b"another's")
    assert (tmp_path / "claims" / "1").read_bytes() == b"mine"
    assert files.partial_files() == []


def test_another_refusal_of_a_link_is_an_error(tmp_path: Path, monkeypatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(local.os, "link", refuse)
    files = LocalFiles(tmp_path, read_only=False)
    with pytest.raises(OSError, match="Input/output error"):
        files.create_exclusive("claims/1", b"mine")
    assert files.partial_files() == []


def test_a_store_that_may_only_be_read_is_refused_when_it_is_opened(tmp_path: Path, monkeypatch) -> None:
    path = open_store(str(tmp_path / "s"), mode="a").path
    monkeypatch.setattr(local.os, "access", lambda path, mode: False)
    open_store(path)
    with pytest.raises(StoreWriteError, match=r"cannot be written: Permission denied.*--store"):
        open_store(path, mode="a")


def test_folders_that_vanish_while_they_are_listed_are_passed_over(tmp_path: Path, monkeypatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.partial").touch()
    scandir = local.os.scandir

    def forget_a(path: object):
        if str(path).endswith("/a"):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return scandir(path)

    monkeypatch.setattr(local.os, "scandir", forget_a)
    files = LocalFiles(tmp_path, read_only=False)
    assert files.partial_files() == ["b/1.partial"]
    assert files.children("c") == files.children("a/1.partial") == []


def test_folders_that_may_not_be_listed_are_an_error(tmp_path: Path, monkeypatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(local.os, "scandir", refuse)
    with pytest.raises(PermissionError):
        LocalFiles(tmp_path, read_only=False).partial_files()
