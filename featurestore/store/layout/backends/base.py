"""Backend: the files below the root of one store, on whatever keeps them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

METADATA = "zarr.json"
PARTIAL = ".partial"
"""Suffix of a file that is not finished; a killed process may leave one behind."""

Contents = NDArray[np.uint8]
Use = Callable[[int, Contents | None], object]


class Backend(ABC):
    """Files by key, which is a path below the root with ``/`` between its parts.

    Attributes:
        store: The same files for Zarr.
        place: The root without anything that says how to reach it, for messages.
        failures: What a refused or failed request raises, an absent or unexpected file aside.
    """

    store: Store
    place: str
    failures: tuple[type[Exception], ...]

    @abstractmethod
    def children(self, path: str) -> list[str]:
        """Names of what stands directly below `path`, in any order."""

    @abstractmethod
    def has_chunks(self, path: str) -> bool:
        """Whether any file but metadata lies below `path`."""

    @abstractmethod
    def is_vacant(self) -> bool:
        """Whether nothing stands at the root, leftovers of a killed process aside."""

    @abstractmethod
    def partial_files(self) -> list[str]:
        """Keys of unfinished files."""

    @abstractmethod
    def read_files(self, keys: Sequence[str], n_bytes: int, use: Use) -> None:
        """As `Storage.read_files`."""

    @abstractmethod
    def read_bytes(self, key: str) -> bytes | None:
        """All of a file; None where there is none."""

    @abstractmethod
    def create_exclusive(self, key: str, data: bytes) -> bool:
        """As `Storage.create_exclusive`."""

    @abstractmethod
    def replace_bytes(self, key: str, data: bytes) -> None:
        """Write a whole file, whatever stood there: a reader sees the old bytes or the new."""

    @abstractmethod
    def delete_folder(self, path: str) -> None:
        """Delete everything below `path`; another process may do the same."""

    @abstractmethod
    def check_writable(self, key: str, data: bytes) -> None:
        """Raise one of `failures` where the store cannot be written; the file is written where only that tells."""

    @abstractmethod
    def explain(self, error: Exception, *, writing: bool) -> tuple[str, str]:
        """Why a request failed, and what the user can do."""
