"""Claims: who computes which block, so that no two writers compute the same one.

A claim is a plain file ``claims/NAME``, which only one writer can create; it holds the id of its owner, who writes
``claims/OWNER.alive`` again and again. An owner is gone when that file is, when its process is no longer on this
machine, or when the file stayed the same for a minute by the clock of whoever looks: clocks of two machines are never
compared. To take over the claim of an owner that is gone is to create ``NAME~OWNER``, which again only one can do.

Claims save time, and nothing depends on them: two writers of one block write the same bytes.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any
from uuid import uuid4

from featurestore.errors import StoreError
from featurestore.store.layout.storage import Storage

CLAIMS = "claims"
"""Group of the claims, which are plain files: empty while nobody writes."""

BEAT_SECONDS = 10.0
"""An owner says so often that it is there."""

EXPIRY_SECONDS = 60.0
"""An owner that said nothing for so long is gone."""

_ALIVE = ".alive"


class Claims:
    """The claims of one writer; leaving the context gives back those that it still has.

    With the first one it says that it is there, and sweeps away what owners left that are gone.

    Args:
        storage: The store, open for writing.
        owner: Id of the writer; a process that goes on with another's work, known to be dead, takes its id.
        clock: Seconds from any start, never going back.
    """

    def __init__(self, storage: Storage, owner: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.owner = owner or uuid4().hex[:12]
        self._storage, self._clock = storage, clock
        self._held: dict[str, str] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._beats = 0
        self._ended = Event()
        self._heart = Thread(target=self._keep_beating, name="claims", daemon=True)

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._beats:
            return
        self._ended.set()
        if self._heart.is_alive():
            self._heart.join()
        with suppress(StoreError):  # what cannot be given back expires
            for name in list(self._held):
                self._give_back(name)
            dismiss(self._storage, self.owner)

    def beat(self) -> None:
        """Say that this writer is there."""
        self._beats += 1
        process = {"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid(), "beat": self._beats}
        self._storage.replace_bytes(_alive(self.owner), json.dumps(process).encode())

    def acquire(self, path: str, block: int) -> bool:
        """Whether this writer may compute a block: nobody else who is there has claimed it.

        Args:
            path: Path of the key.
            block: Number of the block.
        """
        if not self._beats:
            self._announce()
        name = claim = _name(path, block)
        while not self._storage.create_exclusive(f"{CLAIMS}/{claim}", self.owner.encode()):
            owner = self._owner_of(claim)
            if owner == self.owner:
                break
            if owner is None:  # given back meanwhile
                claim = name
            elif self._is_gone(owner):
                claim = f"{claim}~{owner}"
            else:
                return False
        self._held[name] = claim
        return True

    def release(self, path: str, block: int) -> None:
        """Give back a block: it is committed, or there was nothing to do."""
        self._give_back(_name(path, block))

    def holder(self, path: str, block: int) -> str:
        """Who has claimed a block, for messages."""
        owner = self._owner_of(_name(path, block)) or ""
        process = _parse(self._storage.read_bytes(_alive(owner)) or b"")
        return f"process {process.get('pid')} on {process.get('host')}"

    def sweep(self) -> list[str]:
        """Delete what owners left that are gone, and return its names."""
        left = self.find_left()
        for name in left:
            self._storage.delete_file(f"{CLAIMS}/{name}")
        return left

    def find_left(self) -> list[str]:
        """Names of what owners left that are gone; what was taken over from them is not among them."""
        owners = {name: self._named_owner(name) for name in self._storage.children(CLAIMS)}
        gone = {owner for owner in owners.values() if owner and self._is_gone(owner)}
        kept = [name for name, owner in owners.items() if owner not in gone]
        return [name for name in owners if not any(f"{one}~".startswith(f"{name}~") for one in kept)]

    def _announce(self) -> None:
        self._storage.require_group(CLAIMS)
        self.beat()
        self.sweep()
        self._heart.start()

    def _named_owner(self, name: str) -> str | None:
        return name.removesuffix(_ALIVE) if name.endswith(_ALIVE) else self._owner_of(name)

    def _owner_of(self, claim: str) -> str | None:
        """The owner of a claim; None where there is none, empty where it is just being written."""
        raw = self._storage.read_bytes(f"{CLAIMS}/{claim}")
        return None if raw is None else raw.decode(errors="replace")

    def _is_gone(self, owner: str) -> bool:
        raw = self._storage.read_bytes(_alive(owner)) if owner else b""
        if raw is None:
            return True
        process = _parse(raw)
        if process.get("machine") == _machine() and not _is_running(process.get("pid")):
            return True
        before, since = self._seen.get(owner, (None, 0.0))
        if raw != before:
            self._seen[owner] = raw, self._clock()
            return False
        return self._clock() - since > EXPIRY_SECONDS

    def _give_back(self, name: str) -> None:
        links = self._held.pop(name).split("~")
        for count in range(1, len(links) + 1):
            self._storage.delete_file(f"{CLAIMS}/{'~'.join(links[:count])}")

    def _keep_beating(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with suppress(StoreError):  # a beat that cannot be written is one that others miss
                self.beat()


def dismiss(storage: Storage, owner: str) -> None:
    """Say that a writer is gone: what it claimed is free at once."""
    storage.delete_file(_alive(owner))


def _name(path: str, block: int) -> str:
    return f"{blake2b(path.encode(), digest_size=8).hexdigest()}.{block}"


def _alive(owner: str) -> str:
    return f"{CLAIMS}/{owner}{_ALIVE}"


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        process = json.loads(raw)
    except ValueError:
        return {}
    return process if isinstance(process, dict) else {}


def _machine() -> str:
    """What process ids are told apart by: the host, its last start, and the container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _is_running(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return True  # not known to be gone
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
