"""RemotePath: a folder or file of an object store, for readers that know it as a path."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from featurestore.errors import MissingDependencyError, UnreachableError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_T = TypeVar("_T")

Stamp = Callable[[object], int]
"""Fingerprint of a file, given what else decides its pixels."""


@dataclass(frozen=True, order=True)
class RemotePath:
    """What readers need of `pathlib.Path`, of an object store.

    Attributes:
        bucket: URL of the bucket, ``s3://galaxies``.
        key: Path below it, without a slash at either end.
        query: What the URL says of how to reach it; see `featurestore.object_storage.connection.connect`.
    """

    bucket: str
    key: str
    query: str = ""
    _objects: ObjectStore | None = field(default=None, compare=False, repr=False)

    @classmethod
    def parse(cls, url: str) -> RemotePath:
        """The path at a URL, which is reached.

        Raises:
            UsageError: The URL is none of an object store.
            MissingDependencyError: What reaches object stores is not installed.
            UnreachableError: There are no credentials, there is no such bucket, or nobody answers.
        """
        parts = urlsplit(url)
        bucket, key = f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")
        query = f"?{parts.query}" if parts.query else ""
        try:
            from featurestore.object_storage.connection import connect
        except ImportError as error:
            raise MissingDependencyError(
                f"a library for object stores is not installed: {error}",
                where=url,
                hint="Install it: pip install 'skyprobe[s3]'.",
            ) from error
        return cls(bucket, key, query, connect(bucket + query, prefix=key).objects)

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}{self.query}".rstrip("/")

    def __truediv__(self, name: str) -> RemotePath:
        return self._at(f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        """Last part."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """Ending of the name."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> RemotePath:
        """The folder that it lies in."""
        return self._at(self.key.rpartition("/")[0])

    def resolve(self) -> RemotePath:
        """Itself: a URL is absolute."""
        return self

    def exists(self) -> bool:
        """Whether there is such a file or folder."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is such an object."""
        try:
            return bool(self.key) and self._ask(lambda objects: objects.head(self.key)) is not None
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether any object lies below it."""
        return next(self._list(chunk_size=1), None) is not None

    def files(self) -> Iterator[tuple[str, Stamp]]:
        """Every object below it, in no order, by its relative path; hidden ones are left out.

        The stamp is made of size and entity tag, so that a copy of a file is the same file.
        """
        for entry in self._list(chunk_size=1000):
            path = entry["path"][len(self.key) :].lstrip("/")
            if not any(part.startswith(".") for part in path.split("/")):
                yield path, _stamp_of(entry)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Files directly in it whose names match."""
        found = self._ask(lambda objects: objects.list_with_delimiter(self.key or None))
        yield from (self._at(entry["path"]) for entry in found["objects"] if fnmatch(_name(entry), pattern))

    def stamp(self, salt: object) -> int:
        """Fingerprint of the file, as `files` has it.

        Raises:
            FileNotFoundError: There is no such object.
            UnreachableError: The server does not answer, or refuses.
        """
        return _stamp_of(self._ask(lambda objects: objects.head(self.key)))(salt)

    def open_ranges(self) -> io.BufferedReader:
        """The file, of which only those ranges are asked for that are read, of 256 KiB and more.

        Raises:
            FileNotFoundError: There is no such object.
            UnreachableError: The server does not answer, or refuses.
        """
        size = self._ask(lambda objects: objects.head(self.key))["size"]

        def read_range(start: int, length: int) -> bytes:
            return self._ask(lambda objects: objects.get_range(self.key, start=start, length=length).to_bytes())

        return io.BufferedReader(_Ranges(size, read_range), 2**18)

    def read_bytes(self, check_size: Callable[[int], object] = int) -> bytes:
        """All of a file, in one request.

        Args:
            check_size: Called with the number of bytes before they are read; may raise.

        Raises:
            FileNotFoundError: There is no such object.
            UnreachableError: The server does not answer, or refuses.
        """

        def read(objects: ObjectStore) -> bytes:
            result = objects.get(self.key)
            check_size(result.meta["size"])
            return result.bytes().to_bytes()

        return self._ask(read)

    def _at(self, key: str) -> RemotePath:
        return RemotePath(self.bucket, key, self.query, self._objects)

    def _list(self, chunk_size: int) -> Iterator[Any]:
        from obstore.exceptions import BaseError

        if self._objects is None:
            raise AssertionError
        try:
            for batch in self._objects.list(self.key or None, chunk_size=chunk_size):
                yield from batch
        except BaseError as error:
            raise _refused(error, str(self)) from error

    def _ask(self, request: Callable[[ObjectStore], _T]) -> _T:
        from obstore.exceptions import BaseError

        from featurestore.object_storage.repetition import repeat

        if self._objects is None:
            raise AssertionError
        try:
            objects = self._objects
            return repeat(lambda: request(objects))
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self)) from None
        except BaseError as error:
            raise _refused(error, str(self)) from error


class _Ranges(io.RawIOBase):
    """A file that is read range by range."""

    def __init__(self, size: int, read_range: Callable[[int, int], bytes]) -> None:
        self._size, self._read_range, self._at = size, read_range, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = max(0, min(len(buffer), self._size - self._at))
        if length:
            buffer[:length] = self._read_range(self._at, length)
            self._at += length
        return length


Place = Path | RemotePath
"""Where a reader finds its files."""


def place_at(text: str) -> Place:
    """A path on a disk, or one in an object store.

    Raises:
        SkyprobeError: See `RemotePath.parse`.
    """
    return RemotePath.parse(text) if "://" in text else Path(text)


def on_disk(path: Place) -> Path:
    """The file itself, or a copy of it that lasts as long as the process."""
    if isinstance(path, Path):
        return path
    folder = TemporaryDirectory(prefix="skyprobe-", ignore_cleanup_errors=True)
    _COPIES.append(folder)
    copy = Path(folder.name) / path.name
    copy.write_bytes(path.read_bytes())
    return copy


_COPIES: list[TemporaryDirectory[str]] = []


def _name(entry: Any) -> str:
    return str(entry["path"]).rpartition("/")[2]


def _stamp_of(entry: Any) -> Stamp:
    state = entry["size"], entry["e_tag"] or str(entry["last_modified"])

    def stamp(salt: object) -> int:
        return int.from_bytes(blake2b(repr((state, salt)).encode(), digest_size=8).digest(), "little")

    return stamp


def _refused(error: Exception, where: str) -> UnreachableError:
    from featurestore.object_storage.refusals import explain_refusal

    reason, hint = explain_refusal(error, where)
    return UnreachableError(reason, where=where, hint=hint)
