"""write_atomically: a file that is either whole or absent, whatever stops the writer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident

from featurestore.errors import StoreWriteError


@contextmanager
def writing(path: Path, what: str = "the file") -> Iterator[None]:
    """Turn an OSError of the block into a `StoreWriteError` of what is written at `path`."""
    try:
        yield
    except OSError as error:
        raise StoreWriteError(
            f"{what} cannot be written: {error.strerror or error}",
            where=path,
            hint="Check permissions and free space, or give another folder.",
        ) from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file through a neighbour that replaces it when whole.

    Args:
        path: The file to write or replace; its folder is made if need be.
        write: Writes the path that it is given.

    Raises:
        StoreWriteError: The folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(part)
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return path
