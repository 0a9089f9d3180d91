"""LocalFiles: a store in a folder."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
from typing_extensions import override
from zarr.storage import LocalStore

from featurestore.store.layout.backends.base import METADATA, PARTIAL, Backend, Contents, Use

_RUN_BYTES = 2**23
"""Bytes of the files that one thread reads after another into one buffer: small files are not worth a thread."""

_THREADS = min(4, os.cpu_count() or 1)
"""Threads that read files; copying saturates the memory before it occupies more."""


class LocalFiles(Backend):
    """The files in a folder.

    Args:
        root: The folder; it need not exist.
        read_only: Whether writes are refused.
    """

    failures = (OSError,)

    def __init__(self, root: Path, *, read_only: bool) -> None:
        self.root = root
        self.place = str(root)
        self.store = LocalStore(root, read_only=read_only)

    @override
    def children(self, path: str) -> list[str]:
        try:
            names = [entry.name for entry in (self.root / path).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in names if not name.endswith(PARTIAL)]

    @override
    def has_chunks(self, path: str) -> bool:
        return any(file.name != METADATA and file.suffix != PARTIAL for file in _walk(self.root / path))

    @override
    def is_vacant(self) -> bool:
        return not self.root.exists() or (
            self.root.is_dir() and all(entry.name.endswith(PARTIAL) for entry in self.root.iterdir())
        )

    @override
    def partial_files(self) -> list[str]:
        return [file.relative_to(self.root).as_posix() for file in _walk(self.root) if file.suffix == PARTIAL]

    @override
    def read_files(self, keys: Sequence[str], n_bytes: int, use: Use) -> None:
        root, run = str(self.root), 1 + _RUN_BYTES // (n_bytes + 1)

        def read_run(first: int) -> None:
            buffer = np.empty(n_bytes, dtype=np.uint8)
            for number, key in enumerate(keys[first : first + run], first):
                use(number, _read_file(f"{root}/{key}", buffer))

        runs = range(0, len(keys), run)
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in (pool.map if len(runs) > 1 else map)(read_run, runs):
                pass  # raises what the thread raised

    @override
    def read_bytes(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None

    @override
    def create_exclusive(self, key: str, data: bytes) -> bool:
        path = self.root / key
        part = _write_part(path, data)
        try:
            os.link(part, path)  # unlike a file that is made and then filled, this one is whole as soon as it is there
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}:
                raise
            return _create_here(path, data)
        finally:
            part.unlink(missing_ok=True)
        return True

    @override
    def replace_bytes(self, key: str, data: bytes) -> None:
        path = self.root / key
        _write_part(path, data).replace(path)

    @override
    def delete_folder(self, path: str) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(self.root / path)

    @override
    def check_writable(self, key: str, data: bytes) -> None:
        if self.root.exists() and not os.access(self.root, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.root))

    @override
    def explain(self, error: Exception, *, writing: bool) -> tuple[str, str]:
        reason = getattr(error, "strerror", None) or str(error)
        if writing:
            return reason, "Check permissions and free space, or choose another folder by --store."
        return reason, "Check the permissions of this folder and of those above it."


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder; what another process deletes meanwhile is passed over."""
    for parent, _, names in os.walk(folder, onerror=_raise_unless_gone):
        yield from (Path(parent, name) for name in names)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _read_file(path: str, buffer: Contents) -> Contents | None:
    """All bytes of a file, in `buffer` if they fit."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - half the time of Path.open
            size = os.fstat(file.fileno()).st_size
            target = buffer[:size] if size <= len(buffer) else np.empty(size, dtype=np.uint8)
            return target[: file.readinto(target.data)]
    except FileNotFoundError:
        return None


def _write_part(path: Path, data: bytes) -> Path:
    """A complete neighbour of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL}")
    try:
        part.write_bytes(data)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return part


def _create_here(path: Path, data: bytes) -> bool:
    """Create a file where the file system has no links: for an instant it is there and empty."""
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True
