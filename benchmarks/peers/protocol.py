"""The protocol of the peers: load the model, print ``ready``, then answer each ``go`` with seconds and images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks.channel import claim_stdout

Embed = Callable[[], tuple[int, float]]
"""Embeds all pictures from disk to features; returns their number, and seconds of loading that do not count."""

Load = Callable[[str, Path, str], Embed]
"""Makes `Embed` of the name of a timm backbone, a folder that holds one class folder, and the way to run the peer."""


def serve(load: Load) -> None:
    """Load what the command line says, then embed the folder once for each line of standard input."""
    answers = claim_stdout()
    backbone, folder, way = sys.argv[1:]
    embed = load(backbone, Path(folder), way)
    print("ready", file=answers)
    for _ in sys.stdin:
        started = perf_counter()
        images, uncounted = embed()
        print(perf_counter() - started - uncounted, images, file=answers)
