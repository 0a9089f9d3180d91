"""Stores of 10^5 to 10^8 samples, tiny vectors generated blockwise: python -m benchmarks.survey [ROWS ...].

Each size is put, listed, scanned for what is missing, and read at random, each in a process of its own that states its
peak memory. Features are written without going through `write_block`, whose costs benchmarks/store_write.py measures:
what is measured here is how a store of that size is used. Figures go to results/survey.json.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.record import RESULTS
from benchmarks.row import Row
from benchmarks.stored import make_block, make_room
from featurestore.samples import SampleTable
from featurestore.store import FeatureStore, open_store
from featurestore.store.entry import FeatureEntry
from featurestore.store.inventory import describe, list_store

SIZES = (100_000, 1_000_000, 10_000_000)
"""Sizes of ``make bench``; 10^8 takes half an hour and 30 GB of disk, and is asked for by name."""

WIDTH, PIECE, PICKED = 4, 2**19, 10_000
GOALS = {"put": None, "ls": 2.0, "info": 2.0, "resume scan": 10.0, "random rows": 5.0}
"""Step -> seconds at 10^8 rows."""

PUT_MEGABYTES = 2_000


def make_pieces(rows: int) -> Iterator[SampleTable]:
    """A catalogue, piece after piece."""
    for start in range(0, rows, PIECE):
        numbers = range(start, min(start + PIECE, rows))
        ids = tuple(f"{number:09d}" for number in numbers)
        labels = {"kind": np.arange(numbers.start, numbers.stop) % 4}
        splits = np.where(labels["kind"] == 0, "test", "train")
        yield SampleTable("noise", ids, labels, {"kind": tuple("abcd")}, splits, _fingerprints(numbers))


def _fingerprints(rows: range) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.arange(rows.start, rows.stop, dtype=np.uint64)


def put(path: str, rows: int) -> None:
    """The sample table alone, out of a stream."""
    open_store(path, mode="a").put_dataset(make_pieces(rows))


def fill(path: str, rows: int) -> None:
    """Features of all samples: every block has the bytes that `write_block` gives it, numbers of rows aside."""
    store = open_store(path, mode="a")
    entry = make_room(store, WIDTH, "float16")
    arrays, stored = entry.arrays(), store.tables.stored("noise")
    for block, start in enumerate(range(0, rows, entry.block_rows)):
        own = range(start, min(start + entry.block_rows, rows))
        values = np.random.default_rng(block).standard_normal((len(own), WIDTH), dtype=np.float32)
        _write_plainly(arrays, block, make_block(values, start, stored.hashes(own)))
    entry.summarise()


def _write_plainly(arrays: Any, block: int, data: Any) -> None:
    """Arrays of a block, without looking at what is there; checks are those of `write_block`."""
    from featurestore.store.layout.row_checks import compute_checks

    rows = np.arange(len(data.state)) + block * arrays.block_rows
    values = data.values["avgpool"].astype("float16")
    reasons = np.zeros((len(rows), 160), np.uint8)
    columns = {
        "content": data.content,
        "stamp": data.fingerprints,
        "sample_hash": data.sample_hashes,
        "reason": reasons,
    }
    arrays.values("avgpool").write_block(block, values)
    for name, column in columns.items():
        arrays.column(name).write_block(block, column)
    for pooling, own in ((None, tuple(columns.values())), ("avgpool", (data.state, values))):
        place = arrays.place(pooling)
        arrays.check(pooling).write_block(block, compute_checks(place, rows, data.sample_hashes, *own))
    arrays.state("avgpool").write_block(block, data.state)


def scan(entry: FeatureEntry, rows: int) -> None:
    """What a repeated extraction asks: is anything missing or changed?"""
    if entry.pending(_fingerprints(range(rows)), np.ones(rows, dtype=bool)).any():
        raise SystemExit("rows are pending in a store that is complete")


def read_some(entry: FeatureEntry, rows: int) -> None:
    """Features and samples of rows all over the store, every check included."""
    picked = np.sort(np.random.default_rng(0).choice(rows, PICKED, replace=False))
    if len(entry.read(rows=picked).values) != PICKED:
        raise SystemExit("rows are missing")


def run_step(step: str, path: str, rows: int) -> dict[str, float]:
    """Seconds and peak megabytes of one step, in this process."""
    store: FeatureStore | None = open_store(path) if step not in {"put", "fill"} else None
    started = perf_counter()
    if store is None:
        (put if step == "put" else fill)(path, rows)
    elif step == "ls":
        list_store(store)
    elif step == "info":
        describe(store.find()[0])
    else:
        (scan if step == "resume scan" else read_some)(store.find()[0], rows)
    seconds = perf_counter() - started
    return {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure_size(rows: int) -> dict[str, dict[str, float]]:
    """Step -> its figures, each in a process of its own."""
    found: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as folder:
        for step in ("put", "fill", "ls", "info", "resume scan", "random rows"):
            command = [sys.executable, "-m", "benchmarks.survey", "--step", step, f"{folder}/store.zarr", str(rows)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[step] = json.loads(done.stdout)
    return found


def measure() -> Iterator[Row]:
    """Rows of the table: seconds of each step at the largest size, and how they grow."""
    sizes = {rows: measure_size(rows) for rows in SIZES}
    largest = SIZES[-1]
    for step, goal in GOALS.items():
        seconds = sizes[largest][step]["seconds"]
        note = ", ".join(f"{rows:.0e}: {found[step]['seconds']:.2f} s" for rows, found in sizes.items())
        note += f"; {sizes[largest][step]['megabytes']:.0f} MB; the goal is for 10^8"
        yield Row(f"{step}, {largest:,} rows", "s", seconds, seconds, goal, at_most=True, note=note)
    memory = sizes[largest]["put"]["megabytes"]
    yield Row(f"put {largest:,} rows: memory", "MB", memory, memory, PUT_MEGABYTES, at_most=True)


def main(words: list[str]) -> None:
    """Measure the sizes that are named, and keep the figures."""
    if words[:1] == ["--step"]:
        print(json.dumps(run_step(words[1], words[2], int(words[3]))))
        return
    path = RESULTS / "survey.json"
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for rows in [int(float(word)) for word in words] or SIZES:
        known[str(rows)] = measure_size(rows)
        path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        for step, figures in known[str(rows)].items():
            print(f"{rows:>11,} {step:<12} {figures['seconds']:9.2f} s {figures['megabytes']:8.0f} MB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
