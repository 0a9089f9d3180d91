"""Extraction, from files to stored features, against the physical bound and against the bare forward pass.

The bound is what this machine can do when it must both read images and forward them: the sum of both times, each
measured alone with one thread a processor, in turn with ours. Loading models is left out on all sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.images import write_images
from benchmarks.phases import ENGINES, Bare, extract_seconds, fastest_forward, read_seconds
from benchmarks.row import Row

ROUNDS = 5
FORMATS = {"jpeg": 424, "png": 300}


@dataclass(frozen=True)
class Case:
    """A backbone to measure.

    Attributes:
        backbone: Its name.
        images: Images a round: some ten seconds, and whole batches for every worker.
        goal: Share of the bare forward rate that 424 px JPEG must reach.
    """

    backbone: str
    images: int
    goal: float


CASES = (
    Case("timm:vit_small_patch16_224", 256, 0.95),
    Case("timm:resnet18", 1024, 0.90),
    Case("timm:tf_efficientnet_lite0", 2048, 0.80),
)


def measure() -> Iterator[Row]:
    """For each backbone and precision: the share of the bound from JPEG and PNG, of the forward alone from JPEG."""
    with TemporaryDirectory() as place:
        for case in CASES:
            folders = {
                kind: write_images(Path(place) / case.backbone, kind, side, case.images)
                for kind, side in FORMATS.items()
            }
            for precision in ENGINES:
                bare = fastest_forward(case.backbone, max(64, case.images // 16), precision)
                for kind, folder in folders.items():
                    yield from _compare(case, precision, kind, folder, bare)


def _compare(case: Case, precision: str, kind: str, folder: Path, bare: Bare) -> Iterator[Row]:
    rounds = [_round(case, precision, folder, bare) for _ in range(ROUNDS)]
    rate, forward, reading = (case.images / median(column) for column in zip(*rounds, strict=True))
    what = f"{kind.upper()} {FORMATS[kind]} px to stored {case.backbone.partition(':')[2]} {precision}"
    note = f"forward alone {forward:.0f}/s ({bare.label}), input alone {reading:.0f}/s"
    share = median((alone + reading) / ours for ours, alone, reading in rounds)
    yield Row(f"{what}, of the bound", "images/s", rate, share, 0.95, limit=rate / share, note=note)
    if kind == "jpeg":
        share = median(alone / ours for ours, alone, _ in rounds)
        yield Row(f"{what}, of the forward alone", "images/s", rate, share, case.goal, limit=rate / share, note=note)


def _round(case: Case, precision: str, folder: Path, bare: Bare) -> tuple[float, float, float]:
    """Seconds of ours, of the forward alone, of reading alone."""
    ours = extract_seconds(folder, [case.backbone], precision=precision)
    return ours, bare.seconds(case.images), read_seconds(folder, case.images)
