"""write_atomically: a file that is either whole or absent, whatever stops the writer."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from featurestore.errors import StoreWriteError


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file through a neighbour that replaces it when whole.

    Args:
        path: The file to write or replace; its folder is made if need be.
        write: Writes the path that it is given.

    Raises:
        StoreWriteError: The folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        part.replace(path)
    except OSError as error:
        raise StoreWriteError(
            f"the file cannot be written: {error.strerror or error}",
            where=path,
            hint="Check permissions and free space, or give another folder.",
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return path
