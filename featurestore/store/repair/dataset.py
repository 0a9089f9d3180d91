"""The order of the rows of a dataset whose stored table is damaged: what an extraction needs to write it anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import StoreError
from featurestore.samples import SampleTable
from featurestore.store.layout.blocked_array import BlockedArray
from featurestore.store.layout.key_arrays import KeyArrays
from featurestore.store.layout.storage import Storage
from featurestore.store.layout.text import decode_text
from featurestore.store.table.columns import decode, seal
from featurestore.store.table.draft import Draft
from featurestore.store.table.format_1 import as_text
from featurestore.store.table.revisions import COLUMNS, read_revision
from featurestore.store.table.samples import ID, describe, to_columns


def recover_ids(
    storage: Storage, path: str, table: SampleTable, key_paths: Iterable[str], block_rows: int
) -> Sequence[str]:
    """The sample id of each store row, as far as anything still tells.

    Args:
        storage: Where the dataset is.
        path: Path of its group.
        table: The dataset as its source has it now.
        key_paths: Paths of its features, which carry a hash of the id of every row that was written.
        block_rows: Rows of a block.

    Returns:
        Ids in store order; a row that is written, but whose sample is neither stored nor in `table`, has a made-up one.
        Empty where nothing tells, and nothing depends on the order.
    """
    revisions = [name for name in storage.children(path) if name != COLUMNS]
    draft = Draft(describe(table))
    draft.add(to_columns(table))
    if draft.build()[0] in revisions:
        return table.sample_ids
    readers = [_read_ids(storage, path, revision) for revision in revisions]
    known = [ids for ids in readers if ids] or [ids for ids in _read_segments(storage, path) if ids]
    return max(known, key=len) if known else _identify(table, _read_hashes(storage, key_paths, block_rows))


def _read_ids(storage: Storage, path: str, revision: str) -> Sequence[str]:
    """The sample ids of a revision, be it of format 1: of all of it if it is intact, else of their own array."""
    try:
        return read_revision(storage, path, revision).all_ids()
    except StoreError:
        pass
    try:
        array = BlockedArray(storage, f"{path}/{revision}/{ID}")
        return tuple(decode_text(array.read_all(array.rows)))
    except (StoreError, ValueError):
        return ()


def _read_segments(storage: Storage, path: str) -> Iterator[Sequence[str]]:
    """The sample ids of each segment that is intact, and may be all that there is."""
    folder = f"{path}/{COLUMNS}/{ID}"
    for digest in storage.children(folder):
        try:
            array = BlockedArray(storage, f"{folder}/{digest}")
            texts = as_text(array.read_all(array.rows))
        except (StoreError, ValueError):
            continue
        if seal(texts)[0].digest == digest:
            yield tuple(decode(texts))


def _read_hashes(storage: Storage, key_paths: Iterable[str], block_rows: int) -> Iterator[NDArray[np.uint64]]:
    for path in key_paths:
        try:
            column = KeyArrays(storage, path, block_rows).column("sample_hash")
            yield column.read_all(column.rows)
        except StoreError:
            continue


def _identify(table: SampleTable, hashes: Iterable[NDArray[np.uint64]]) -> Sequence[str]:
    """Ids by their hashes: 0 is a row that was not written."""
    names = dict(zip(table.id_hashes.tolist(), table.sample_ids, strict=True))
    rows = [max(found) for found in zip_longest(*(found.tolist() for found in hashes), fillvalue=0)]
    return tuple(names.get(found, f"lost: row {row}") for row, found in enumerate(rows))
