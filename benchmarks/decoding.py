"""Decoding for a GPU by processes, simulated: decoding and the GPU are sleeps of their length, which need no core.

So it shows on any machine whether sixteen processes would wait for each other, for the threads that ask them, or for
the GPU's batches; not how fast sixteen cores are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from benchmarks.row import Row
from featurestore.backbones.engines.base import Pixels, Pooled
from featurestore.datasets.base import Sample
from featurestore.extraction.decoding_pool import DecodingPool, open_decoding
from featurestore.extraction.embedding import Costs, Task, embed_batch
from featurestore.preprocessing import Preprocessing
from featurestore.samples import SampleTable

PROCESSES, BATCH_SIZE, SECONDS = 16, 256, 6.0
COSTS = {"JPEG": 1.06e-3, "PNG": 6.0e-3}
"""Seconds that a core takes to decode and resize an image of 424 px, as measured on the machine of the project."""

PASS_SECONDS = 0.01
HOW = Preprocessing(resize=16, interpolation="nearest")


class SleepingImages:
    """Images that take their time, and are flat."""

    decoder = "array"

    def __init__(self, count: int, seconds: float) -> None:
        ids = tuple(f"{row:07d}" for row in range(count))
        splits, fingerprints = np.full(count, "", dtype=np.str_), np.arange(count, dtype=np.uint64)
        self.table = SampleTable("sleeping", ids, {}, {}, splits, fingerprints)
        self.seconds = seconds

    def __len__(self) -> int:
        return len(self.table)

    def read(self, row: int) -> Sample:
        """An image, after a while."""
        time.sleep(self.seconds)
        return Sample(np.full((16, 16), row % 256, dtype=np.uint8), row.to_bytes(16, "little"))


class SleepingForward:
    """A GPU."""

    shapes: Mapping[str, tuple[int, ...]] = {"avgpool": (1,)}
    small, notes, batch_size = False, dict[str, str](), BATCH_SIZE

    def __call__(self, pixels: Pixels) -> Pooled:
        """Zeros, after a while."""
        time.sleep(PASS_SECONDS)
        return {"avgpool": np.zeros((len(pixels), 1), np.float32)}


@dataclass(frozen=True)
class Run:
    """Images a second, and the share of their time for which the processes decode."""

    rate: float
    busy: float


def run(processes: int, seconds: float) -> Run:
    """Batches through so many processes, for some seconds."""
    dataset = SleepingImages(BATCH_SIZE * max(8, round(SECONDS * processes / seconds / BATCH_SIZE)), seconds)
    decoding = open_decoding(dataset, "cuda", processes, BATCH_SIZE)
    pool = decoding.fill.__self__  # type: ignore[attr-defined]
    assert isinstance(pool, DecodingPool)

    def embed(start: int) -> Costs:
        task = Task(HOW, SleepingForward(), np.arange(start, start + BATCH_SIZE), {"avgpool": "avgpool"})
        return embed_batch(dataset, [task], decoding.fill)[1]

    with ThreadPoolExecutor(decoding.workers) as workers:
        wait_for(pool, processes)
        started = perf_counter()
        costs = list(workers.map(embed, range(0, len(dataset), BATCH_SIZE)))
        wall = perf_counter() - started
    pool.close()
    spent = sum(one.decode + one.preprocess for one in costs)
    return Run(len(dataset) / wall, spent / wall / processes)


def wait_for(pool: DecodingPool, processes: int) -> None:
    """Until every process has started: those that have would do the work of the others."""
    known: set[int] = set()
    while len(known) < processes:
        known |= {one.result() for one in [pool.submit(_say_who) for _ in range(2 * processes)]}


def _say_who() -> int:
    time.sleep(0.02)
    return os.getpid()


def measure() -> Iterator[Row]:
    """Sixteen processes against sixteen times one, and how busy they are."""
    for kind, seconds in COSTS.items():
        one, many = run(1, seconds), run(PROCESSES, seconds)
        what = f"{kind} 424 px decoded by {PROCESSES} processes, simulated"
        note = "decoding, resizing and the GPU are sleeps of their length"
        limit = PROCESSES * one.rate
        share = many.rate / limit
        yield Row(f"{what}, of {PROCESSES} times one", "images/s", many.rate, share, 0.9, limit=limit, note=note)
        yield Row(f"{what}, share of time that they decode", "images/s", many.rate, many.busy, 0.95, note=note)
