"""Files of a dataset, opened with care: regular ones alone, and no more of them in memory than the budget allows."""

from __future__ import annotations

import errno
import stat
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from featurestore.datasets.budget import check_bytes, file_budget
from featurestore.datasets.remote import Place, RemotePath


def check_regular(path: Path) -> None:
    """Refuse what is not a regular file, before a library opens it.

    Raises:
        OSError: It is not there, or is a pipe, a socket or a device, which reading could wait for or never end with.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def open_file(path: Place) -> BinaryIO:
    """Open a regular file; one of an object store is read at once, in one request.

    Raises:
        OSError: It is none (see `check_regular`), or may not be read.
    """
    if isinstance(path, RemotePath):
        return BytesIO(read_file(path))
    check_regular(path)
    return path.open("rb")


def read_file(path: Place) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: See `open_file`.
        UnreadableImageError: The file exceeds the budget of an image.
    """
    if isinstance(path, RemotePath):
        return path.read_bytes(lambda size: check_bytes(size, path))
    with open_file(path) as file:
        data = file.read(file_budget() + 1)
    check_bytes(len(data), path)
    return data
