"""LocalPool: one process a device on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.util import Finalize
from threading import Thread
from typing import NoReturn

from featurestore.errors import SkyprobeError, UsageError
from featurestore.extraction.executors.host import Host, Order, Piece
from featurestore.extraction.processing import Processed

_host: Host | None = None
"""The host of a process of a pool."""


class LocalPool:
    """Processes on this machine; see `featurestore.extraction.executors.coordinator.Pool`.

    Args:
        order: The extraction.
        devices: For each process, the GPU that it sees, as CUDA_VISIBLE_DEVICES has it; None: what this process sees.
    """

    tries = 3

    def __init__(self, order: Order, devices: Sequence[str | None]) -> None:
        self.size = len(devices)
        self._order, self._devices = order, devices
        self._processes = [self._make(number) for number in range(self.size)]

    def start(self, number: int) -> Future[list[int] | SkyprobeError]:
        """Ask a process for the blocks with something to do."""
        return self._processes[number].submit(_blocks)

    def ask(self, number: int, piece: Piece) -> Future[Processed | SkyprobeError]:
        """Have a process do a piece."""
        return self._processes[number].submit(_process, piece)

    def replace(self, number: int) -> None:
        """Put a new process into the place of one that died."""
        self._end(self._processes[number])
        self._processes[number] = self._make(number)

    def close(self) -> None:
        """End all processes: what they are computing is dropped, what they are writing is completed."""
        for one in self._processes:
            self._end(one)

    def _make(self, number: int) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # threads and GPUs do not survive a fork
        return ProcessPoolExecutor(1, context, _begin, (self._order, number, self._devices[number]))

    def _end(self, pool: ProcessPoolExecutor) -> None:
        for pid in list(pool._processes or ()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        pool.shutdown(wait=True, cancel_futures=True)


def list_devices(asked: str, device: str) -> list[str | None]:
    """What each of several processes on this machine gets to see.

    Args:
        asked: ``--devices``: a number, or ``all``.
        device: Device class of the extraction, ``cpu`` or ``cuda``.
    """
    visible = _visible_gpus() if device == "cuda" else []
    if asked == "all" and visible:
        return [*visible]
    if not asked.isdecimal() or int(asked) < 1:
        raise UsageError(
            "all devices of a machine without a GPU" if asked == "all" else f"{asked!r} devices",
            where="--devices",
            hint="Give the number of processes: --devices 2.",
        )
    if device == "cuda" and int(asked) > len(visible):
        raise UsageError(
            f"{asked} devices, and this machine shows {len(visible)} GPUs", where="--devices", hint="Use --devices all."
        )
    return [*visible[: int(asked)]] if visible else [None] * int(asked)


def _visible_gpus() -> list[str]:
    if named := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return named.split(",")
    from torch.cuda import device_count

    return [str(number) for number in range(device_count())]


def _begin(order: Order, number: int, device: str | None) -> None:
    """Make a new process the host of its device."""
    global _host  # noqa: PLW0603 - a process of a pool has no other place for what lasts
    for ignored in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)  # the first process says when to stop
    signal.signal(signal.SIGTERM, _stop)
    Thread(target=_end_with_parent, daemon=True).start()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    _host = Host(order, number)
    Finalize(None, _host.close, exitpriority=10)


def _stop(_signal: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _blocks() -> list[int] | SkyprobeError:
    return _get_host().blocks()


def _process(piece: Piece) -> Processed | SkyprobeError:
    return _get_host().process(piece)


def _get_host() -> Host:
    if _host is None:
        raise RuntimeError("the process was not begun")
    return _host
