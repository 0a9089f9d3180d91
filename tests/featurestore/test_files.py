"""A file is whole or absent."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from featurestore.errors import StoreWriteError
from featurestore.files import write_atomically


def test_the_file_and_its_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    assert write_atomically(path, lambda part: part.write_text("whole")) == path
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(part):
        part.write_text("half")
        raise failure

    expected = StoreWriteError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_threads_that_write_the_same_file_do_not_share_a_neighbour(tmp_path):
    both = Barrier(2)
    neighbours = []

    def write(part):
        part.write_text("whole")
        neighbours.append(part)
        both.wait(timeout=60)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: write_atomically(tmp_path / "file.txt", write), range(2)))
    assert len(set(neighbours)) == 2
    assert (tmp_path / "file.txt").read_text() == "whole"


def test_the_message_says_where_and_what_next(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(StoreWriteError, match=r"the file cannot be written: .*taken.*Check permissions"):
        write_atomically(tmp_path / "taken" / "file.txt", lambda part: part.write_text("x"))
