"""The process that is killed: it imports what jobs need once, then forks for each job that it is asked for.

    python -m tests.torture.child

Each line of stdin asks for one job, in JSON; each line of stdout answers when that has ended. Kills happen at counted
events: an event is whatever changes a file system, as Python's own audit hooks tell. No product code knows of it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from tests.torture import crowd

MODEL = ["-b", "timm:test_efficientnet", "-p", "resize=64"]
WEIGHTS = ["--weights", "random:0"]
BLOCK_ROWS = 8
IMAGES = os.environ.get("TORTURE_IMAGES", "")
"""The dataset: one for all, since its path and the times of its files are stored."""

_CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR


class Events:
    """Counts changes of files below a folder; at one of them, sends this process a signal, or fails from then on.

    Args:
        folder: The folder.
        at: Number of the event; None for none.
        sends: Number of the signal.
        fails: Number of an error of the system, in place of the signal.

    Attributes:
        count: Events so far.
    """

    def __init__(self, folder: str, at: int | None = None, sends: int = signal.SIGKILL, fails: int = 0) -> None:
        self.count, self._folder, self._at, self._sends, self._fails = 0, folder, at, sends, fails
        self._lock = Lock()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES and not (event == "open" and (arguments[2] or 0) & _WRITING):
            return
        if not str(arguments[0]).startswith(self._folder):
            return
        with self._lock:
            number, self.count = self.count, self.count + 1
        if self._at is None or number < self._at:
            return
        if self._fails:
            raise OSError(self._fails, os.strerror(self._fails), str(arguments[0]))
        if number == self._at:
            if event == "os.rename" and number % 2:  # as if the kill had come while the file was being written
                os.truncate(arguments[0], Path(arguments[0]).stat().st_size // 2)
            os.kill(os.getpid(), self._sends)


def run_command(*words: object) -> int:
    """Exit code of a command."""
    from cli import main

    try:
        return int(main([str(word) for word in words], standalone_mode=False) or 0)
    except SystemExit as error:
        return int(error.code or 0)


def extract(folder: Path, *words: object) -> int:
    from featurestore.store import open_store

    store = folder / "store.zarr"
    open_store(str(store), mode="a", block_rows=BLOCK_ROWS).close()
    return run_command("extract", IMAGES, *MODEL, *WEIGHTS, "--engine", "torch", "--batch-size", 4,
                       "--workers", 2, "--store", store, *words)  # fmt: skip


def slices(folder: Path) -> int:
    """The two tasks of a job array, one after the other."""
    return extract(folder, "--slice", "0/2") or extract(folder, "--slice", "1/2")


def probe(folder: Path) -> int:
    return run_command("probe", IMAGES, *MODEL, "--store", folder / "store.zarr", "--head", "linear,centroid",
                       "--fractions", "50,100", "--seeds", 2, "--save", "-o", folder / "probes")  # fmt: skip


def project(folder: Path) -> int:
    return run_command("umap", IMAGES, *MODEL, "--store", folder / "store.zarr", "-o", folder / "umap")


def train(folder: Path) -> int:
    """Goes on from checkpoints where there are any."""
    return run_command("finetune", IMAGES, *MODEL, *WEIGHTS, "--mode", "top:1", "--epochs", 3,
                       "--head-epochs", 1, "--resume", "--store", folder / "store.zarr",
                       "-o", folder / "trained")  # fmt: skip


def repair(folder: Path) -> int:
    """Forgets what is damaged, and computes it again."""
    run_command("verify", "--repair", "--store", folder / "store.zarr")
    return extract(folder)


def finish(folder: Path) -> int:
    """Sweeps what killed processes left, whose marks are old by then."""
    from featurestore.store.layout import writers

    writers.LIMIT_SECONDS = 0.0
    store = "--store", folder / "store.zarr"
    return run_command("verify", "--repair", *store) or run_command("gc", *store)


JOBS: dict[str, Callable[[Path], int]] = {
    job.__name__: job for job in (extract, slices, probe, project, train, repair, finish)
} | {
    "crowd": lambda folder: crowd.crowd(folder, IMAGES, BLOCK_ROWS),
    "alone": lambda folder: crowd.alone(folder, IMAGES, BLOCK_ROWS),
}


def serve() -> None:
    """Answer requests until stdin ends."""
    import_all()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(run_forked(**request)) + "\n")
        answers.flush()


def import_all() -> None:
    """What takes seconds, once; nothing may start a thread, which a fork would lose."""
    import timm.models
    import torch

    import finetune.study
    import studies.stages
    from studies.commands import extraction, probing, stores, training

    del timm, finetune, studies, extraction, probing, stores, training
    torch.set_num_threads(1)


def run_forked(job: str, folder: str, seconds: float | None = None, **events: Any) -> dict[str, Any]:
    """Run a job in a process of its own.

    Args:
        job: Its name in `JOBS`.
        folder: Where it works.
        seconds: The time that it is killed after.
        events: What happens at an event; see `Events`.

    Returns:
        ``code``, negative for a signal; ``events`` and ``seconds`` of a job that ended by itself.
    """
    reading, writing = os.pipe()
    started = time.monotonic()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _work(job, folder, seconds, Events(folder, **events), writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return {"code": status, "events": int(told or 0), "seconds": time.monotonic() - started}


def _work(job: str, folder: str, seconds: float | None, events: Events, writing: int) -> None:
    code = 70
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        sys.addaudithook(events)
        if seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds)  # nothing handles it: the process ends at once
        code = JOBS[job](Path(folder))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(writing, str(events.count).encode())
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
