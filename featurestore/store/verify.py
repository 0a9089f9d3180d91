"""Verification: every byte of a store is read again, and leftovers of killed processes are swept away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError, StoreError
from featurestore.store.cache import read_cached
from featurestore.store.entry import FeatureEntry
from featurestore.store.layout.key_arrays import COLUMNS, DONE, MISSING, UNREADABLE, KeyArrays
from featurestore.store.layout.storage import PARTIAL
from featurestore.store.layout.table_arrays import StoredTable, read_table
from featurestore.store.store import CACHE, DATASETS, FEATURES, FeatureStore


@dataclass(frozen=True)
class Problem:
    """Something wrong in a store.

    Attributes:
        where: Path of the file, array, group or block.
        what: What is wrong.
        repaired: Whether it is gone now. Features that were forgotten have to be extracted again.
    """

    where: str
    what: str
    repaired: bool


def verify(store: FeatureStore, *, repair: bool = False) -> list[Problem]:
    """Read everything in a store and compare it with its checksums, states and digests.

    A store that was opened for writing is swept as well: unfinished files, revisions, features and cached entries of
    killed processes are deleted. Nothing else may write to the store meanwhile.

    Args:
        store: The store.
        repair: Whether damaged blocks are forgotten, so that ``skyprobe extract`` computes them again.

    Returns:
        All problems found; none if all is well.
    """
    problems = [*_check_files(store), *_check_cache(store)]
    tables: dict[str, StoredTable] = {}
    for component in store.storage.children(DATASETS):
        problems += _check_dataset(store, component, tables)
    paths = [FEATURES]
    for _ in ("dataset", "variant", "backbone", "key"):
        paths = [f"{path}/{child}" for path in paths for child in store.storage.children(path)]
    for path in paths:
        problems += _check_features(store, path, tables, repair)
    return problems


def _check_files(store: FeatureStore) -> Iterator[Problem]:
    for key in store.storage.partial_files():
        if not store.storage.read_only:
            store.storage.delete_file(key)
        yield Problem(store.storage.where(key), f"a {PARTIAL} file of a killed process", not store.storage.read_only)


def _check_cache(store: FeatureStore) -> Iterator[Problem]:
    for kind in store.storage.children(CACHE):
        for entry in store.storage.children(f"{CACHE}/{kind}"):
            path = f"{CACHE}/{kind}/{entry}"
            if read_cached(store.storage, path) is None:
                yield _sweep(store, path, "an incomplete or damaged entry")


def _check_dataset(store: FeatureStore, component: str, tables: dict[str, StoredTable]) -> Iterator[Problem]:
    """Check one dataset; an intact one is put into `tables`."""
    path = f"{DATASETS}/{component}"
    try:
        current = (store.storage.attributes(path) or {}).get("current")
        for revision in store.storage.children(path):
            if revision != current:
                yield _sweep(store, f"{path}/{revision}", "a revision that is not in use")
        if current is not None:
            tables[component] = read_table(store.storage, f"{path}/{current}")
    except CorruptStoreError as error:
        yield Problem(error.where, error.what, repaired=False)


def _check_features(
    store: FeatureStore, path: str, tables: Mapping[str, StoredTable], repair: bool
) -> Iterator[Problem]:
    stored = tables.get(path.split("/")[1])
    try:
        entry = store.open_entry(path)
        if entry is None:
            yield _sweep(store, path, "features whose making or removal was cut short")
        elif stored is None:
            yield Problem(store.storage.where(path), "features of a dataset that is absent or damaged", repaired=False)
        elif entry.key.short != path.rpartition("/")[2]:
            yield Problem(store.storage.where(path), "features under the name of another key", repaired=False)
        else:
            yield from _check_blocks(store, entry, stored, repair)
    except StoreError as error:
        yield Problem(error.where, error.what, repaired=False)


def _check_blocks(store: FeatureStore, entry: FeatureEntry, stored: StoredTable, repair: bool) -> Iterator[Problem]:
    arrays = KeyArrays(store.storage, entry.path)
    for block in range(max(array.n_blocks for array in arrays.all(entry.shapes))):
        expected = stored.id_hashes[block * store.block_rows : (block + 1) * store.block_rows]
        damage = _find_damage(arrays, entry, block, expected)
        if damage:
            if repair:
                entry.discard_block(block)
            yield Problem(f"{store.storage.where(entry.path)}, block {block}", damage, repair)


def _find_damage(arrays: KeyArrays, entry: FeatureEntry, block: int, expected: NDArray[np.uint64]) -> str:
    """What is wrong with one block; empty if nothing is."""
    try:
        columns = {name: arrays.column(name).read_stored(block) for name in COLUMNS}
        pairs = {
            pooling: (arrays.state(pooling).read_stored(block), arrays.values(pooling).read_stored(block))
            for pooling in entry.shapes
        }
    except CorruptStoreError as error:
        return f"{error.where}: {error.what}"
    found = {
        pooling: _find_contradiction(state, values, columns, expected)
        for pooling, (state, values) in pairs.items()
        if state is not None and (state != MISSING).any()
    }
    return "; ".join(f"{pooling}: {what}" for pooling, what in found.items() if what)


def _find_contradiction(
    state: NDArray[np.uint8],
    values: NDArray[Any] | None,
    columns: Mapping[str, NDArray[Any] | None],
    expected: NDArray[np.uint64],
) -> str:
    """What does not fit the states of a block that has some; empty if all does."""
    if (state > UNREADABLE).any():
        return "a state that does not exist"
    absent = [name for name, rows in columns.items() if rows is None]
    if absent:
        return f"no chunk of {', '.join(absent)}"
    known, done = np.flatnonzero(state != MISSING), np.flatnonzero(state == DONE)
    hashes = columns["sample_hash"]
    if hashes is None or known[-1] >= len(expected) or (hashes[known] != expected[known]).any():
        return "rows of other samples than the dataset says"
    if len(done) and (values is None or len(values) <= done[-1] or not np.isfinite(values[done]).all()):
        return "rows that say done have no values"
    return ""


def _sweep(store: FeatureStore, path: str, what: str) -> Problem:
    if not store.storage.read_only:
        store.storage.delete(path)
    return Problem(store.storage.where(path), what, not store.storage.read_only)
