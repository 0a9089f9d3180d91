"""What one block costs, on a disk and in a bucket: seconds, requests, bytes; ``docs/scale.md`` counts on it.

``python -m benchmarks.block_costs`` writes blocks of random features into a store in a temporary folder, and into one
on moto's server on loopback. The server's own time is that of a Python program and says nothing of S3: requests and
bytes are what is measured there, and how much of them waits for one another, by letting every answer take longer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

import numpy as np

from benchmarks.stored import make_block, make_room
from featurestore.samples import SampleTable
from featurestore.store import FeatureStore, open_store
from tests.object_server import CREDENTIALS, ObjectServer, serve_objects

WIDTH, BLOCKS = 768, 3
DELAY = 0.1
"""Seconds that an answer takes where waiting is measured."""


class Cost(NamedTuple):
    """What one step cost.

    Attributes:
        seconds: Wall time; on a bucket without delay that of the server too.
        gets: Requests that read or list.
        puts: Requests that write, which cost ten times as much.
        sent: Bytes written.
        waits: Answers that were waited for one after the other: added time by added delay.
    """

    seconds: float
    gets: int
    puts: int
    sent: int
    waits: float


def measure_disk(block_rows: int) -> float:
    """Seconds to write one block on a disk, the quickest of a few: the page cache, without waiting for the disk."""
    with TemporaryDirectory() as folder:
        store = _make_store(f"{folder}/s.zarr", block_rows)
        return min(_time(step) for step in _writes(store))


def measure_bucket(server: ObjectServer, block_rows: int) -> dict[str, Cost]:
    """Steps of an extraction, on a bucket: how many requests, how many of them in a row."""
    costs = {}
    runs = [_run_steps(server, block_rows, delay) for delay in (0.0, DELAY)]
    for name, (seconds, requests) in runs[0].items():
        kinds = Counter("get" if one.method in {"GET", "HEAD"} else "put" for one in requests)
        waits = (runs[1][name][0] - seconds) / DELAY
        costs[name] = Cost(seconds, kinds["get"], kinds["put"], sum(one.sent for one in requests), waits)
    return costs


def _run_steps(server: ObjectServer, block_rows: int, delay: float) -> dict[str, tuple[float, list]]:  # type: ignore[type-arg]
    bucket = f"b{block_rows}-{int(delay * 1000)}"
    server.make_bucket(bucket)
    proxy, path = server.proxy, f"s3://{bucket}/s.zarr"
    done = {}

    def step(name: str, act: Callable[[], object]) -> None:
        proxy.requests.clear()
        done[name] = _time(act), list(proxy.requests)

    proxy.delay = delay
    step("make a store, put a table", lambda: _make_store(path, block_rows))
    store = open_store(path, mode="a")
    step("make a key", lambda: make_room(store, WIDTH, "float16"))
    for number, write in enumerate(_writes(store)):
        step("write the first block" if number == 0 else "write a block", write)
    reader = open_store(path)
    (entry,) = reader.find()
    step("open and find", lambda: open_store(path).find())
    step("count rows", entry.counts)
    step("read all rows", lambda: entry.read(allow_partial=True))
    proxy.delay = 0.0
    return done


def _make_store(path: str, block_rows: int) -> FeatureStore:
    n = block_rows * BLOCKS
    store = open_store(path, mode="a", block_rows=block_rows)
    ids = tuple(f"{row:07d}" for row in range(n))
    store.put_dataset(SampleTable("noise", ids, {}, {}, np.full(n, "", dtype=np.str_), np.arange(n, dtype=np.uint64)))
    return store


def _writes(store: FeatureStore) -> Iterator[Callable[[], object]]:
    entry = make_room(store, WIDTH, "float16")
    values = np.random.default_rng(0).standard_normal((entry.block_rows, WIDTH), dtype=np.float32)
    for number in range(BLOCKS):
        block = make_block(values, number * entry.block_rows)
        yield lambda number=number, block=block: entry.write_block(number, block)  # type: ignore[misc]


def _time(act: Callable[[], object]) -> float:
    start = perf_counter()
    act()
    return perf_counter() - start


def main() -> None:
    """Print the table."""
    print(f"{'rows':>5} {'step':28} {'s':>7} {'GET':>5} {'PUT':>5} {'MB sent':>8} {'in a row':>8}")
    with TemporaryDirectory() as folder, serve_objects(Path(folder)) as server:
        os.environ.update(CREDENTIALS | {"AWS_ENDPOINT_URL": server.url})
        for rows in (512, 4096, 8192):
            print(f"{rows:5} {'write a block, on a disk':28} {measure_disk(rows):7.3f}")
            for name, cost in measure_bucket(server, rows).items():
                print(
                    f"{rows:5} {name:28} {cost.seconds:7.3f} {cost.gets:5} {cost.puts:5} {cost.sent / 1e6:8.2f} "
                    f"{cost.waits:8.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
