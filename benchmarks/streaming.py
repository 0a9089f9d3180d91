"""Probing features that outgrow memory: the peak of a process that trains twelve linear heads on a million rows."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from benchmarks.row import Row, seconds

N, D, N_CLASSES = 1_000_000, 768, 4
TEST_SHARE = 0.1
FRACTIONS, SEEDS = (10, 30, 50, 100), 3
EPOCHS = 3
GOAL_GB = 2.0


class Trained(NamedTuple):
    """Peak resident memory in bytes, seconds of the sweep, rows that all heads learnt from, and mean macro-F1."""

    peak: int
    seconds: float
    rows: int
    macro_f1: float


def measure() -> Iterator[Row]:
    """Both protocols, each in a process of its own, on one store of float16."""
    with TemporaryDirectory() as place, get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        path = f"{place}/store.zarr"
        pool.apply(write_store, (path,))
        for protocol, passes in (("paper", f"{EPOCHS} epochs"), ("cv", "to gradient norm 1e-4")):
            trained = pool.apply(train, (path, protocol))
            speed = trained.rows * (EPOCHS if protocol == "paper" else 1) / trained.seconds
            yield Row(
                f"peak memory of {len(FRACTIONS) * SEEDS} linear heads on {N:,} x {D} float16, protocol {protocol}",
                "GB",
                trained.peak / 1e9,
                trained.peak / 1e9,
                GOAL_GB,
                at_most=True,
                note=f"{passes}, {trained.seconds:.0f} s, {speed:,.0f} training rows/s; float32 in memory would take "
                f"{N * D * 4 / 1e9:.1f} GB; macro-F1 {trained.macro_f1:.3f}",
            )


def write_store(path: str) -> None:
    """A store of separable classes with noise, written block by block as an extraction would."""
    from benchmarks.stored import make_block, make_room
    from featurestore.samples import SampleTable
    from featurestore.store import open_store

    rng = np.random.default_rng(0)
    labels = rng.integers(N_CLASSES, size=N)
    centres = 0.05 * rng.standard_normal((N_CLASSES, D), dtype=np.float32)
    table = SampleTable(
        name="noise",
        sample_ids=tuple(f"{row:07d}" for row in range(N)),
        labels={"kind": labels},
        classes={"kind": tuple(f"class {label}" for label in range(N_CLASSES))},
        splits=np.where(rng.random(N) < TEST_SHARE, "test", "train"),
        fingerprints=np.arange(N, dtype=np.uint64),
    )
    store = open_store(path, mode="a")
    store.put_dataset(table)
    arrays = make_room(store, D, "float16")
    for block, start in enumerate(range(0, N, arrays.block_rows)):
        own = labels[start : start + arrays.block_rows]
        values = centres[own] + rng.standard_normal((len(own), D), dtype=np.float32)
        arrays.write_block(block, make_block(values, start))


def train(path: str, protocol: str) -> Trained:
    """Train all heads, on features that stay in the store."""
    from featurestore.store import open_store
    from probes.sweep.sweep import sweep

    features = open_store(path).select().open()
    options = {"linear": {"epochs": EPOCHS}}
    runs = []
    wall = seconds(
        lambda: runs.extend(
            sweep(features, ["linear"], protocol=protocol, fractions=FRACTIONS, seeds=SEEDS, options=options)
        )
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    f1 = np.mean([run.scores.macro["f1"] for run in runs])
    return Trained(peak, wall, sum(run.n_train for run in runs), float(f1))
