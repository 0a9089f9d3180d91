"""Reading a whole feature matrix with all checks, against np.load of the same values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.row import Row, compare
from featurestore.feature_arrays import Block, FeatureArrays
from featurestore.key import FeatureKey
from featurestore.layout.key_arrays import DONE
from featurestore.samples import SampleTable
from featurestore.store import FeatureStore, open_store

N, D = 50_000, 768


def measure() -> Iterator[Row]:
    """float32, from the page cache."""
    with TemporaryDirectory() as place:
        values = np.random.default_rng(0).standard_normal((N, D), dtype=np.float32)
        np.save(f"{place}/values.npy", values)
        arrays = _write(open_store(f"{place}/store.zarr", mode="a"), values)
        yield compare(
            f"read {N:,} x {D} float32, checksums verified",
            arrays.read,
            lambda: np.load(Path(place) / "values.npy"),
            against="np.load",
            amount=values.nbytes / 1e9,
            unit="GB/s",
        )


def _write(store: FeatureStore, values: np.ndarray) -> FeatureArrays:
    empty = np.full(N, "", dtype=np.str_)
    ids = tuple(f"{row:06d}" for row in range(N))
    store.put_dataset(SampleTable("noise", ids, {}, {}, empty, np.arange(N, dtype=np.uint64)))
    key = FeatureKey({}, "noise", "none:noise", "", "", "last", "none", "fp32", "cpu", "float32")
    arrays = store.create("noise", "none", "noise", key, {"avgpool": D}, {})
    for start in range(0, N, store.block_rows):
        rows = slice(start, min(start + store.block_rows, N))
        count = rows.stop - rows.start
        content, state = np.zeros((count, 16), np.uint8), np.full(count, DONE, np.uint8)
        stamps = np.arange(rows.start, rows.stop, dtype=np.uint64)
        block = Block({"avgpool": values[rows]}, state, content, stamps, {})
        arrays.write_block(start // store.block_rows, block)
    return arrays
