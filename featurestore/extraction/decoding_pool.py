"""Processes that decode for a GPU: threads would share one interpreter lock, which holds them to the rate of a few.

Each takes portions of a batch through decoding and preprocessing, and puts the pixels into memory that it shares with
the process that asked. A dataset that cannot be sent to other processes is decoded by threads.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from multiprocessing import get_context, parent_process
from pathlib import Path
from shutil import disk_usage, rmtree
from tempfile import gettempdir, mkdtemp, mkstemp
from threading import Thread, local
from typing import TYPE_CHECKING, Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ExtractionError
from featurestore.extraction.embedding import EMPTY, Batch, Costs, Fill, Rendered, fill_here, render_row, wanted
from featurestore.preprocessing import Preprocessing, to_unit

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset

PORTION = 32
"""Rows that a process takes at a time: small enough to keep all of them busy, large enough to ask seldom."""

IMAGE_BYTES = 2**20
"""Room for an image that a GPU resizes; a larger one comes back by the pipe."""

_AHEAD = 2
"""Portions for each process that are asked for or done: it never waits for the next one."""

ENOUGH = 4 * 2**30
"""Bytes free for files that are memory, else they are files."""

_IN_FLIGHT = 2
"""Batches that a GPU has, and that nobody decodes meanwhile."""

_log = logging.getLogger("skyprobe")


@dataclass(frozen=True)
class Decoding:
    """How batches get their pixels.

    Attributes:
        fill: What fills them.
        workers: Threads that take batches through it and the forwards.
    """

    fill: Fill
    workers: int


def open_decoding(dataset: ImageDataset, device: str, workers: int, batch_size: int) -> Decoding:
    """Decoding by the workers themselves on a CPU; by so many processes where a GPU computes, until nobody uses it.

    Args:
        dataset: The images.
        device: Device class of the forwards.
        workers: Threads or processes that decode.
        batch_size: Images a batch.
    """
    sent = _pickled(dataset) if device != "cpu" else None
    if sent is None:
        return Decoding(fill_here, workers)
    pool = DecodingPool(sent, dataset.decoder, workers)
    return Decoding(pool.fill, _IN_FLIGHT + -(-_AHEAD * workers * PORTION // batch_size))


def _pickled(dataset: ImageDataset) -> bytes | None:
    try:
        return pickle.dumps(dataset)
    except Exception as error:  # whatever a dataset's own parts raise
        _log.warning("the dataset cannot be sent to decoding processes, threads decode: %s", error)
        return None


@dataclass(frozen=True)
class _Room:
    """Shared memory for a batch of one variant.

    Attributes:
        path: Of the file that is the memory.
        preprocessing: The variant.
        shape: Of one image's pixels; bytes of any, where a GPU resizes.
        dtype: Of the pixels.
    """

    path: str
    preprocessing: Preprocessing
    shape: tuple[int, ...]
    dtype: str

    def open(self, n: int) -> NDArray[Any]:
        """(n, *shape), in the memory."""
        return np.memmap(self.path, self.dtype, "r+", shape=(n, *self.shape))


@dataclass(frozen=True)
class _Portion:
    """What a process is asked for: rows of a batch, from a slot on, of each variant that wants them."""

    rooms: Sequence[_Room]
    slots: Sequence[NDArray[np.int64]]
    start: int
    batch_size: int


@dataclass(frozen=True)
class _Placed:
    """Pixels that stand in the shared memory: their shape and type."""

    shape: tuple[int, ...]
    dtype: str

    def find(self, memory: NDArray[np.uint8]) -> NDArray[Any]:
        """The pixels, in the bytes of their image."""
        size = prod(self.shape) * np.dtype(self.dtype).itemsize
        return memory[:size].view(self.dtype).reshape(self.shape)


_Answer = tuple[int, int, Rendered, _Placed | None]
"""Number of the room, slot, what it became, and where the pixels are if not with it."""


class _CannotOpenError(Exception):
    """A process cannot open the dataset that it was sent."""


class DecodingPool:
    """Processes with a copy of a dataset, and memory that they share with the threads that ask them.

    Args:
        sent: The dataset, pickled.
        decoder: Its decoder.
        processes: How many.

    Attributes:
        submit: Has one of the processes call a function.
        close: Ends the processes and gives the memory back, once; also when the pool goes.
    """

    def __init__(self, sent: bytes, decoder: str, processes: int) -> None:
        self._decoder = decoder
        self._folder = mkdtemp(prefix="skyprobe-", dir=_shared_folder())
        self._pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin, (sent, self._folder))
        self._own, self._opens = local(), True
        self.submit = self._pool.submit
        self.close = finalize(self, _close, self._pool, self._folder)

    def fill(self, dataset: ImageDataset, batches: Sequence[Batch], costs: Costs) -> None:
        """See `featurestore.extraction.embedding.Fill`; pixels are good until the calling thread fills again.

        A dataset that no other process can open, such as one of a class of a notebook, is decoded here.

        Raises:
            ExtractionError: A process has ended, or there is no room for pixels.
        """
        if not self._opens:
            fill_here(dataset, batches, costs)
            return
        rows = wanted(batches)
        rooms = [self._room(number, batch) for number, batch in enumerate(batches)]
        try:
            futures = [self._ask(batches, rooms, start) for start in _starts(rows)]
            answers = [answer for future in futures for answer in self._answers(future, costs)]
        except _CannotOpenError as error:
            self._opens = False
            _log.warning("the dataset cannot be opened by decoding processes, threads decode: %s", error)
            fill_here(dataset, batches, costs)
            return
        except BrokenProcessPool as error:
            raise ExtractionError(
                "a process that decodes images has ended",
                where="decoding",
                hint="Run the same command again, with fewer --workers if memory was short; a script of your own has "
                "to start under: if __name__ == '__main__'.",
            ) from error
        for number, (batch, room) in enumerate(zip(batches, rooms, strict=True)):
            _take([answer[1:] for answer in answers if answer[0] == number], batch, room.open(len(rows)))

    def _ask(self, batches: Sequence[Batch], rooms: Sequence[_Room], start: int) -> Future[tuple[list[_Answer], Costs]]:
        part = slice(start, start + PORTION)
        slots = [batch.slots[part] for batch in batches]
        return self.submit(_decode, _Portion(rooms, slots, start, len(batches[0].slots)))

    def _answers(self, future: Future[tuple[list[_Answer], Costs]], costs: Costs) -> list[_Answer]:
        answers, spent = future.result()
        costs.add(spent)
        return answers

    def _room(self, number: int, batch: Batch) -> _Room:
        """The calling thread's memory for one of its variants."""
        how, n = batch.preprocessing, len(batch.slots)
        exact = how.keeps_bytes and self._decoder != "astropy"
        shape = (IMAGE_BYTES,) if how.resizes_on_device else (how.n_channels, how.resize, how.resize)
        room = _Room("", how, shape, "u1" if exact or how.resizes_on_device else "<f4")
        return replace(room, path=self._memory(number, n * prod(shape) * np.dtype(room.dtype).itemsize))

    def _memory(self, number: int, size: int) -> str:
        """Path of the calling thread's memory of that number, which has that many bytes or more."""
        own: dict[int, tuple[str, int]] = vars(self._own).setdefault("memories", {})
        if number not in own or own[number][1] < size:
            own[number] = _allocate(self._folder, size), size
        return own[number][0]


def _close(pool: ProcessPoolExecutor, folder: str) -> None:
    pool.shutdown(cancel_futures=True)
    rmtree(folder, ignore_errors=True)


def _allocate(folder: str, size: int) -> str:
    handle, path = mkstemp(dir=folder)
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        raise ExtractionError(
            f"there is no room for {size / 1e6:.0f} MB of decoded images: {error.strerror}",
            where=folder,
            hint="Give fewer --workers, or set TMPDIR to a folder with more room.",
        ) from error
    finally:
        os.close(handle)
    return path


def _shared_folder() -> str:
    """Where files are memory, if there is enough; containers often have little of it."""
    memory = Path("/dev/shm")  # noqa: S108  # files in a folder of our own
    return str(memory) if memory.is_dir() and disk_usage(memory).free >= ENOUGH else gettempdir()


def _starts(rows: NDArray[np.int64]) -> list[int]:
    """Where portions begin that have a row."""
    return [start for start in range(0, len(rows), PORTION) if (rows[start : start + PORTION] != EMPTY).any()]


def _take(answers: Sequence[tuple[int, Rendered, _Placed | None]], batch: Batch, memory: NDArray[Any]) -> None:
    """Put what a batch became into it: pixels that stand in the memory first, since others may need another type."""
    if batch.preprocessing.resizes_on_device:
        for slot, rendered, placed in answers:
            batch.add(slot, rendered if placed is None else replace(rendered, pixels=placed.find(memory[slot])))
        return
    batch.lend(memory)
    for slot, rendered, placed in answers:
        if placed is not None:
            batch.add(slot, rendered, placed=True)
    memory[~batch.ready] = 0
    for slot, rendered, placed in answers:
        if placed is None:
            batch.add(slot, rendered)


# --- in the processes that decode ------------------------------------------------------------------------------------

_sent = b""
_opened: dict[tuple[_Room, int], NDArray[Any]] = {}


def _begin(sent: bytes, folder: str) -> None:
    """Take the dataset, and end with the process that asked for this one, however that ends."""
    global _sent  # noqa: PLW0603  # one dataset a process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    _sent = sent
    import torch

    torch.set_num_threads(1)


@cache
def _dataset() -> ImageDataset:
    try:
        dataset: ImageDataset = pickle.loads(_sent)  # noqa: S301  # of the process that started this one
    except Exception as error:
        raise _CannotOpenError(f"{type(error).__name__}: {error}") from None
    return dataset


def _end_with_parent(folder: str) -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        rmtree(folder, ignore_errors=True)
        os._exit(1)


def _decode(portion: _Portion) -> tuple[list[_Answer], Costs]:
    costs, answers = Costs(), list[_Answer]()
    for place, row in enumerate(np.max(portion.slots, axis=0).tolist()):
        asking = [number for number, slots in enumerate(portion.slots) if slots[place] != EMPTY]
        if not asking:
            continue
        variants = [portion.rooms[number].preprocessing for number in asking]
        slot = portion.start + place
        for number, rendered in zip(asking, render_row(_dataset(), row, variants, costs), strict=True):
            answers.append((number, slot, *_put(portion, number, slot, rendered)))
    return answers, costs


def _put(portion: _Portion, number: int, slot: int, rendered: Rendered) -> tuple[Rendered, _Placed | None]:
    """Put pixels where they belong; those that do not fit there stay with the answer."""
    room, pixels = portion.rooms[number], rendered.pixels
    if pixels is None:
        return rendered, None
    place = room, portion.batch_size
    if place not in _opened:
        _opened[place] = room.open(portion.batch_size)
    target = _opened[place][slot]
    if room.preprocessing.resizes_on_device:
        if pixels.nbytes > len(target):
            return rendered, None
        target[: pixels.nbytes] = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    elif room.dtype == "u1" and pixels.dtype != np.uint8:
        return rendered, None
    else:
        target[...] = pixels if pixels.dtype == target.dtype else to_unit(pixels)
    return replace(rendered, pixels=None), _Placed(pixels.shape, pixels.dtype.str)
