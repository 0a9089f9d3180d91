"""Stores of random features, for the benchmarks that read and write them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.samples import SampleTable, hash_ids
from featurestore.store import FeatureStore, open_store
from featurestore.store.entry import DONE, Block, FeatureEntry
from featurestore.store.key import FeatureKey


def make_store(path: str, n: int) -> FeatureStore:
    """A new store that knows a dataset ``noise`` of `n` samples."""
    store = open_store(path, mode="a")
    ids = tuple(_names(range(n)))
    store.put_dataset(SampleTable("noise", ids, {}, {}, np.full(n, "", dtype=np.str_), _fingerprints(0, n)))
    return store


def write_features(store: FeatureStore, values: NDArray[np.float32], dtype: str) -> FeatureEntry:
    """Write the features of all samples, float32 (n, d), as an extraction would: block by block."""
    arrays = make_room(store, values.shape[1], dtype)
    for block, start in enumerate(range(0, len(values), arrays.block_rows)):
        arrays.write_block(block, make_block(values[start : start + arrays.block_rows], start))
    return arrays


def make_room(store: FeatureStore, width: int, dtype: str) -> FeatureEntry:
    """Features of `width` values that are still to be written."""
    key = FeatureKey({}, "noise", "none:noise", "", "", "last", "none", "fp32", "cpu", dtype)
    return store.create("noise", "none", f"noise{width}", key, {"avgpool": (width,)}, {})


def make_block(values: NDArray[np.float32], start: int, samples: NDArray[np.uint64] | None = None) -> Block:
    """The block of these values, (r, d), whose first row is `start`; `samples` are hashes of sample ids, if known."""
    count = len(values)
    content: NDArray[Any] = np.zeros((count, 16), dtype=np.uint8)
    state = np.full(count, DONE, dtype=np.uint8)
    samples = hash_ids(_names(range(start, start + count))) if samples is None else samples
    return Block({"avgpool": values}, state, content, _fingerprints(start, count), sample_hashes=samples)


def _names(rows: range) -> list[str]:
    return [f"{row:07d}" for row in rows]


def _fingerprints(start: int, count: int) -> NDArray[np.uint64]:
    return np.arange(start, start + count, dtype=np.uint64)
