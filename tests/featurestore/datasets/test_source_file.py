import os

import pytest

from featurestore.datasets.budget import VARIABLE
from featurestore.datasets.source_file import open_file, read_file
from featurestore.errors import UnreadableImageError


def test_a_regular_file_is_read_also_through_a_link(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_file(tmp_path / "b") == b"abc"


def test_a_pipe_a_device_and_a_folder_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "zero.png", "folder.png"):
        with pytest.raises(OSError, match="it is not a regular file"):
            open_file(tmp_path / name)


def test_a_file_beyond_the_budget_is_unreadable(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnreadableImageError, match="the file is too large"):
        read_file(tmp_path / "sparse.png")
