"""PeerProcess: one peer in a process of its own, which keeps its model and idles until it is asked for a pass."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TextIO

ROOT = Path(__file__).parents[2]
VENVS = ROOT / "benchmarks" / ".venvs"
"""Where ``make bench-peers`` installs the peers."""

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class PeerError(RuntimeError):
    """A peer that did not come up, or stopped; the message is its exit code and the last line that it printed."""


@dataclass(frozen=True)
class Peer:
    """How people embed a folder of pictures.

    Attributes:
        name: Its name in the table.
        module: The program of `benchmarks.peers` that runs it.
        way: What that program takes for the way to run it.
        venv: Environment in `VENVS`; None for the project's own.
        backbones: Names of timm backbones that it offers; None for all.
    """

    name: str
    module: str
    way: str = "default"
    venv: str | None = None
    backbones: Sequence[str] | None = None

    @property
    def installed(self) -> bool:
        """Whether its environment exists."""
        return self._python.exists()

    @property
    def _python(self) -> Path:
        return VENVS / self.venv / "bin" / "python" if self.venv else Path(sys.executable)

    def command(self, backbone: str, folder: Path) -> list[str]:
        """The words that start it for a timm backbone and a folder of pictures."""
        return [str(self._python), "-m", f"benchmarks.peers.{self.module}", backbone, str(folder), self.way]

    def offers(self, backbone: str) -> bool:
        """Whether it can run a timm backbone."""
        return self.backbones is None or backbone in self.backbones


class PeerProcess:
    """A peer that has loaded its model; made by `start_peer`."""

    def __init__(self, process: subprocess.Popen[str], errors: TextIO) -> None:
        assert process.stdin is not None
        self._process, self._errors, self._input = process, errors, process.stdin.fileno()
        self._answer()

    def rate(self) -> float:
        """Images a second of one pass over the folder.

        Raises:
            PeerError: It stopped.
        """
        with suppress(BrokenPipeError):  # it stopped while it waited: the missing answer says so
            os.write(self._input, b"go\n")
        spent, images = self._answer().split()
        return int(images) / float(spent)

    def _answer(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:]
            raise PeerError(": ".join([f"exit code {code}", *last]))
        return line


@contextmanager
def start_peer(command: Sequence[str]) -> Iterator[PeerProcess]:
    """Start a program that speaks the protocol of the peers, and end it at the end of the context.

    Raises:
        PeerError: It did not come up.
    """
    # Each peer runs with the number of threads that it chooses by itself.
    environment = {name: value for name, value in os.environ.items() if name not in _THREADS} | _OFFLINE
    pipe = subprocess.PIPE
    with (
        TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=errors, cwd=ROOT, env=environment, text=True
        ) as process,
    ):
        try:
            yield PeerProcess(process, errors)
        finally:
            process.kill()
