"""What is wrong with one block of features, found by reading all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError
from featurestore.store.entry import FeatureEntry
from featurestore.store.layout.key_arrays import COLUMNS, DONE, MISSING, UNREADABLE, KeyArrays
from featurestore.store.layout.row_checks import UNCHECKED, compute_checks

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class _Block:
    """All that is stored of a block; None for chunks that were never written.

    Attributes:
        start: Its first row.
        samples: uint64 (r,), hash of the sample that the dataset has in each row.
        columns: Column -> its rows.
        states: Pooling -> uint8 (r,), where any row has one.
        values: Pooling -> its values.
        checks: Pooling, or None for the columns -> uint32 (r,).
    """

    start: int
    samples: Hashes
    columns: Mapping[str, NDArray[Any] | None]
    states: Mapping[str, NDArray[np.uint8]]
    values: Mapping[str, NDArray[Any] | None]
    checks: Mapping[str | None, NDArray[np.uint32]]


def find_damage(entry: FeatureEntry, block: int, samples: Hashes) -> str:
    """What is wrong with a block; empty if nothing is.

    Args:
        entry: The features.
        block: Number of the block.
        samples: uint64 (r,), hash of the sample that the dataset has in each row of the block.
    """
    arrays = entry.arrays()
    try:
        stored = _read(arrays, tuple(entry.shapes), block, samples)
    except CorruptStoreError as error:
        return f"{error.where}: {error.what}"
    found = {
        pooling: _find_contradiction(stored, pooling) or _find_stranger(stored, pooling, arrays, entry.bound)
        for pooling in stored.states
    }
    return "; ".join(f"{pooling}: {what}" for pooling, what in found.items() if what)


def _read(arrays: KeyArrays, poolings: tuple[str, ...], block: int, samples: Hashes) -> _Block:
    start = block * arrays.block_rows
    states = {name: arrays.state(name).read_block(block) for name in poolings}
    checks = {name: arrays.check(name) for name in (None, *poolings)}
    return _Block(
        start=start,
        samples=samples,
        columns={name: arrays.column(name).read_stored(block) for name in COLUMNS},
        states={name: state for name, state in states.items() if (state != MISSING).any()},
        values={name: arrays.values(name).read_stored(block) for name in poolings},
        checks={
            name: np.full(arrays.block_rows, UNCHECKED, np.uint32) if check is None else check.read_block(block)
            for name, check in checks.items()
        },
    )


def _find_contradiction(stored: _Block, pooling: str) -> str:
    """What does not fit the states of a pooling; empty if all does."""
    state, values, hashes = stored.states[pooling], stored.values[pooling], stored.columns["sample_hash"]
    if (state > UNREADABLE).any():
        return "a state that does not exist"
    absent = [name for name, rows in stored.columns.items() if rows is None]
    if absent:
        return f"no chunk of {', '.join(absent)}"
    known, done = np.flatnonzero(state != MISSING), np.flatnonzero(state == DONE)
    if hashes is None or known[-1] >= len(stored.samples) or (hashes[known] != stored.samples[known]).any():
        return "rows of other samples than the dataset says"
    if len(done) and (values is None or len(values) <= done[-1] or not np.isfinite(values[done]).all()):
        return "rows that say done have no values"
    return ""


def _find_stranger(stored: _Block, pooling: str, arrays: KeyArrays, bound: bool) -> str:
    """What lies in the wrong place; empty if nothing does. The rest must be sound."""
    known = np.flatnonzero(stored.states[pooling] != MISSING)
    parts = {
        pooling: (stored.states[pooling], stored.values[pooling]),
        None: tuple(stored.columns[name] for name in COLUMNS),
    }
    for place, columns in parts.items():
        rows = [column[known] for column in columns if column is not None]
        right = compute_checks(arrays.place(place), stored.start + known, stored.samples[known], *rows)
        found = stored.checks[place][known]
        if ((found != right) & (bound | (found != UNCHECKED))).any():
            return "rows that belong elsewhere"
    return ""
