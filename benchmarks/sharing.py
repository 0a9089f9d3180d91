"""Several backbones and variants in one extraction, against the sum of their forwards and one decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.images import write_images
from benchmarks.phases import Bare, extract_seconds, fastest_forward, read_seconds
from benchmarks.row import Row

BACKBONES = ("timm:resnet18", "timm:tf_efficientnet_lite0")
VARIANTS = ("full-224", "center-224")
IMAGES, ROUNDS = 512, 5


def measure() -> Iterator[Row]:
    """Two backbones at two variants: the decode is paid once, not four times."""
    with TemporaryDirectory() as place:
        folder = write_images(Path(place), "jpeg", 424, IMAGES)
        bare = [fastest_forward(backbone, 64) for backbone in BACKBONES]
        rounds = [_round(folder, bare) for _ in range(ROUNDS)]
    ours, limit = (median(column) for column in zip(*rounds, strict=True))
    what = f"{len(BACKBONES)} backbones x {len(VARIANTS)} variants of {IMAGES} JPEG 424 px, over forwards + one decode"
    yield Row(what, "s", ours, median(own / bare for own, bare in rounds), 1.05, at_most=True, limit=limit)


def _round(folder: Path, bare: Sequence[Bare]) -> tuple[float, float]:
    """Seconds of ours; and of the forwards and one decode, each measured alone."""
    ours = extract_seconds(folder, BACKBONES, VARIANTS)
    forwards = len(VARIANTS) * sum(one.seconds(IMAGES) for one in bare)
    return ours, forwards + read_seconds(folder, IMAGES)
