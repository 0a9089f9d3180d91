"""Files that a general compressor made: gzip, bzip2, xz, or the compress of old archives."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, BinaryIO

from featurestore.datasets.boundary import unreadable
from featurestore.datasets.budget import check_bytes, file_budget


def _open_compress(file: BinaryIO) -> Any:
    import uncompresspy

    return uncompresspy.open(file, warn_truncation=False)  # the FITS file itself is then too short


_OPENERS: Mapping[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x1f\x9d": _open_compress,
}
"""First bytes of a file -> what opens it."""


def decompressed(file: BinaryIO, where: str) -> BinaryIO:
    """The file itself, or its content in memory if it is compressed, as its first bytes say.

    A compressed file is read to its end, where gzip, bzip2 and xz have the checksum that tells damage.

    Raises:
        UnreadableImageError: The file is empty, or its content exceeds the budget of a file.
        Exception: The compressed data are damaged; each library has errors of its own.
    """
    start = file.read(6)
    file.seek(0)
    if not start:
        raise unreadable("the file is empty", where)
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    if opener is None:
        return file
    with opener(file) as stream:
        content = stream.read(file_budget() + 1)
    check_bytes(len(content), where)
    return BytesIO(content)
