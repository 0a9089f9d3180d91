"""Marks of writers: what a process is writing to now, so that a repair beside it leaves that alone.

A mark is a group ``writers/ID`` whose attributes say which process it is, and when it last wrote to what. It is written
before the thing it is about, again while writing goes on, and removed at the end; that of a killed process expires.
"""

from __future__ import annotations

import os
import socket
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any
from uuid import uuid4

WRITERS = "writers"
"""Group of the marks."""

REFRESH_SECONDS = 10.0
"""A mark is written again when it is as old as this, and something is written."""

LIMIT_SECONDS = 60.0
"""A mark that is older than this says nothing any more: no single write takes that long."""

Attributes = Mapping[str, Any]


def owner_of(path: str) -> str:
    """What is owned as a whole by whoever writes to `path`: a key, a dataset, a kind of the cache."""
    parts = path.split("/")
    return "/".join(parts[: {"features": 5, "datasets": 2, "derived": 2}.get(parts[0], 1)])


def touches(file: str, owners: Iterable[str]) -> bool:
    """Whether a file is in, or in a folder above, what somebody writes to: groups above are made along with it."""
    folder = file.rpartition("/")[0]
    return any(
        f"{folder}/".startswith(f"{owner}/") or f"{owner}/".startswith(f"{folder}/".lstrip("/")) for owner in owners
    )


class WriterMark:
    """The mark of one writer.

    Args:
        write: Writes the attributes of the group at a path, whatever is there.
        delete: Deletes the group at a path.
        now: Seconds since the epoch.

    Attributes:
        name: Name of the group.
    """

    def __init__(
        self,
        write: Callable[[str, Attributes], None],
        delete: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = uuid4().hex[:12]
        self._write, self._delete, self._now, self._lock = write, delete, now, Lock()
        self._written: dict[str, float] = {}
        self._removal: weakref.finalize[..., WriterMark] | None = None

    def touch(self, path: str) -> None:
        """Say that something at `path` is about to be written; the root itself is nobody's."""
        owner, now = owner_of(path), self._now()
        with self._lock:
            if not owner or now - self._written.get(owner, 0.0) < REFRESH_SECONDS:
                return
            self._written = {known: at for known, at in self._written.items() if now - at < LIMIT_SECONDS}
            self._written[owner] = now
            if self._removal is None:
                self._write(WRITERS, {})
                self._removal = weakref.finalize(self, _delete_quietly, self._delete, f"{WRITERS}/{self.name}")
            process = {"host": socket.gethostname(), "pid": os.getpid()}
            self._write(f"{WRITERS}/{self.name}", {**process, "writes": self._written})

    def remove(self) -> None:
        """Say that nothing is being written any more."""
        with self._lock:
            self._written = {}
            if self._removal:
                self._removal()
                self._removal = None


def _delete_quietly(delete: Callable[[str], None], path: str) -> None:
    """A mark that cannot be deleted expires."""
    with suppress(Exception):
        delete(path)


def find_owned(mark: Attributes, now: float) -> dict[str, str]:
    """Owner -> who writes there, as far as a mark is young enough; nothing for one that has expired."""
    writes = mark.get("writes")
    times = writes.items() if isinstance(writes, Mapping) else ()
    young = [owner for owner, at in times if isinstance(at, int | float) and abs(now - at) < LIMIT_SECONDS]
    return dict.fromkeys(young, f"process {mark.get('pid')} on {mark.get('host')}")
