"""Writing a block of features, against the time that computing it takes."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.row import Row, seconds
from benchmarks.stored import make_block, make_room, make_store

BLOCKS = 20
IMAGES_PER_SECOND = 130.0
"""The fastest extraction in exact fp32 on two cores: the slower it is, the less writing matters."""


def measure() -> Iterator[Row]:
    """float16, as the default is."""
    for width in (768, 1280):
        with TemporaryDirectory() as folder:
            store = make_store(f"{folder}/store.zarr", BLOCKS * 512)
            arrays = make_room(store, width, "float16")
            values = np.random.default_rng(0).standard_normal((arrays.block_rows, width), dtype=np.float32)
            blocks = [make_block(values, number * arrays.block_rows) for number in range(BLOCKS)]
            times = [seconds(lambda: arrays.write_block(number, blocks[number])) for number in range(BLOCKS)]  # noqa: B023
        extraction = arrays.block_rows / IMAGES_PER_SECOND
        yield Row(
            what=f"write {arrays.block_rows} x {width} float16 / extract them",
            unit="s",
            ours=median(times),
            ratio=median(times) / extraction,
            goal=0.02,
            at_most=True,
            limit=extraction,
            note=f"limit: a block's images at {IMAGES_PER_SECOND:.0f} a second",
        )
