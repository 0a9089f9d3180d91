"""What `skyprobe extract` costs when there is nothing left to do: the whole command, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.images import write_images
from benchmarks.row import Row, seconds

IMAGES, ROUNDS = 2_000, 5
HEAVY = ("torch", "timm", "transformers", "open_clip", "openvino")


def measure() -> Iterator[Row]:
    """Wall time of a repeated extraction, start of Python included."""
    with TemporaryDirectory() as place:
        folder = write_images(Path(place), "jpeg", 32, IMAGES)
        arguments = ["extract", f"image_folder:{folder}", "-b", "timm:test_efficientnet", "-p", "resize=32"]
        arguments += ["--weights", "random:0", "--store", f"{place}/store.zarr"]
        _run(arguments)
        wall = median(seconds(lambda: _run(arguments)) for _ in range(ROUNDS))
        loaded = _run(arguments).split()
    note = f"model libraries imported: {', '.join(loaded) or 'none'}"
    yield Row(f"skyprobe extract of {IMAGES:,} images, store complete", "s", wall, wall, 1.0, at_most=True, note=note)


def _run(arguments: list[str]) -> str:
    """Run the command, and say which of the heavy libraries it imported."""
    code = (
        "import sys, cli\n"
        f"cli.main({arguments!r}, standalone_mode=False)\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]
