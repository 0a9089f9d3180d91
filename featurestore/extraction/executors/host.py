"""Host: what runs in each process of an executor. It knows the whole job, and is told numbers of blocks only."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from featurestore.errors import SkyprobeError, UsageError
from featurestore.extraction.extract import Extraction
from featurestore.extraction.processing import Processed
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store.layout.claims import Claims

_T = TypeVar("_T")


@dataclass(frozen=True)
class Order:
    """An extraction, as it is sent to other processes.

    Attributes:
        data: The dataset, as `featurestore.datasets.open_dataset` takes it.
        backbones: Names of backbones.
        variants: Names or specs of preprocessing variants.
        store: Path or URL of the store.
        options: See the extraction; workers are those of one process.
        run: Id of the run, by which a replaced process knows the claims of the one before.
        folder: Folder to which paths are relative.
    """

    data: str
    backbones: tuple[str, ...]
    variants: tuple[str, ...]
    store: str
    options: ExtractionOptions
    run: str
    folder: str


@dataclass(frozen=True)
class Piece:
    """What a process is asked to do.

    Attributes:
        blocks: Numbers of blocks.
        rows: Only these rows of the blocks; all for None.
        reason: Why the rows cannot be embedded, if that is to be noted.
    """

    blocks: tuple[int, ...]
    rows: range | None = None
    reason: str = ""


class Host:
    """One process of an executor; models are loaded with the first call, and stay.

    Errors that say what to do are returned: not every executor can raise them elsewhere as they are.

    Args:
        order: The extraction.
        number: Number of the process, from 0.
    """

    def __init__(self, order: Order, number: int) -> None:
        self._order, self._number = order, number
        self._stack = ExitStack()
        self._extraction: Extraction | None = None

    def blocks(self) -> list[int] | SkyprobeError:
        """Numbers of the blocks with something to do."""
        return _returned(lambda: self._load().blocks)

    def process(self, piece: Piece) -> Processed | SkyprobeError:
        """Do a piece, or what is left of it."""
        return _returned(lambda: self._process(piece))

    def close(self) -> None:
        """Give back all claims."""
        self._stack.close()

    def _process(self, piece: Piece) -> Processed:
        extraction = self._load()
        if not piece.reason:
            done = extraction.process(piece.blocks, rows=piece.rows)
            done.costs.load, extraction.costs.load = extraction.costs.load, 0.0  # told once
            return done
        if extraction.plan and piece.rows:
            extraction.plan.mark_unreadable(piece.blocks[0], piece.rows.start, piece.reason)
        return Processed()

    def _load(self) -> Extraction:
        from featurestore.datasets import open_dataset
        from featurestore.store import open_store

        if self._extraction is None:
            order = self._order
            _enter(order.folder)
            store = open_store(order.store, mode="a")
            claims = self._stack.enter_context(Claims(store.storage, owner_of(order, self._number)))
            dataset = open_dataset(order.data)
            self._extraction = Extraction(dataset, order.backbones, order.variants, store, order.options, claims)
        return self._extraction


def owner_of(order: Order, number: int) -> str:
    """Under which id a process claims blocks; one that replaces it has the same."""
    return f"{order.run}-{number}"


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise UsageError(
            f"this machine does not see the folder: {error.strerror}",
            where=folder,
            hint="Start from a folder on a disk that all machines share.",
        ) from error


def _returned(call: Callable[[], _T]) -> _T | SkyprobeError:
    try:
        return call()
    except SkyprobeError as error:
        return error
