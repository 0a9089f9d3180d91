"""Pictures to measure with: files of smooth noise, which compress like photographs, and images made on the fly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from featurestore.datasets.base import Sample
from featurestore.samples import SampleTable


def write_images(folder: Path, kind: str, side: int, count: int) -> Path:
    """Write `count` RGB pictures of `side` pixels into one class folder; `kind` is ``jpeg`` (quality 92) or ``png``."""
    place = folder / f"{kind}-{side}"
    (place / "all").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        picture = coarse.resize((side, side), Image.Resampling.BICUBIC)
        picture.save(place / "all" / f"{number:05d}.{kind}", quality=92)
    return place


class GeneratedImages:
    """A dataset of `count` flat images of 32 x 32 pixels that exist only while they are read."""

    decoder = "array"

    def __init__(self, count: int) -> None:
        ids = tuple(f"{row:07d}" for row in range(count))
        splits, fingerprints = np.full(count, "", dtype=np.str_), np.arange(count, dtype=np.uint64)
        self.table = SampleTable(f"generated-{count}", ids, {}, {}, splits, fingerprints)

    def __len__(self) -> int:
        return len(self.table)

    def read(self, row: int) -> Sample:
        """An image of one value, and a digest that is its row."""
        return Sample(np.full((32, 32), row % 256, dtype=np.uint8), row.to_bytes(16, "little"))
