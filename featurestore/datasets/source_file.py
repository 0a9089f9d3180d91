"""Files of a dataset, opened with care: regular ones alone, and no more of them in memory than the budget allows."""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from typing import BinaryIO

from featurestore.datasets.budget import check_bytes, file_budget


def check_regular(path: Path) -> None:
    """Refuse what is not a regular file, before a library opens it.

    Raises:
        OSError: It is not there, or is a pipe, a socket or a device, which reading could wait for or never end with.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def open_file(path: Path) -> BinaryIO:
    """Open a regular file.

    Raises:
        OSError: It is none (see `check_regular`), or may not be read.
    """
    check_regular(path)
    return path.open("rb")


def read_file(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: See `open_file`.
        UnreadableImageError: The file exceeds the budget of an image.
    """
    with open_file(path) as file:
        data = file.read(file_budget() + 1)
    check_bytes(len(data), path)
    return data
