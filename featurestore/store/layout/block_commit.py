"""Committing one block: states are withdrawn first and given back last, so that a kill at any instant does no harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import BackboneError, StorageOverflowError, StoreError
from featurestore.store.layout.key_arrays import DONE, MISSING, REASON_BYTES, KeyArrays, Shapes
from featurestore.store.layout.table_arrays import StoredTable
from featurestore.store.layout.text import encode_text

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """What was computed for the rows of one block; r may be less than the block has.

    Attributes:
        values: Pooling -> float32 (r, d), or (r, h, w, D) of dense features; only rows whose state is done are looked
            at.
        state: uint8 (r,): done or unreadable; rows that are missing here keep what the store has.
        content: uint8 (r, 16), digest of each image.
        fingerprints: uint64 (r,), stamp of each image.
        reasons: Row of the block -> why it is unreadable; cut to 160 bytes.
    """

    values: Mapping[str, NDArray[np.float32]]
    state: NDArray[np.uint8]
    content: NDArray[np.uint8]
    fingerprints: NDArray[np.uint64]
    reasons: Mapping[int, str] = field(default_factory=dict)


class BlockCommit:
    """One block on its way into the store.

    Args:
        arrays: The arrays of the key.
        shapes: All poolings of the key.
        stored: The dataset, which knows the sample of each row.
        block: Number of the block.
        data: What was computed.
    """

    def __init__(self, arrays: KeyArrays, shapes: Shapes, stored: StoredTable, block: int, data: Block) -> None:
        self._arrays, self._shapes, self._stored, self._block, self._data = arrays, shapes, stored, block, data
        self._where = f"{arrays.storage.where(arrays.path)}, block {block}"
        self._given: Rows = np.flatnonzero(data.state != MISSING)
        self._done: Rows = np.flatnonzero(data.state == DONE)
        self._start = block * arrays.column("stamp").block_rows
        self._check_place()

    def write(self, dtype: str) -> None:
        """Withdraw states, write values and columns, give states back.

        Raises:
            BackboneError: A value is not finite.
            StorageOverflowError: A value is too large for `dtype`.
        """
        done = self._done
        values = {name: self._cast(matrix[done], dtype) for name, matrix in self._data.values.items()}
        columns = self._update_columns()
        states = self._withdraw(columns["content"])
        for pooling, rows in values.items():
            self._write_values(pooling, rows, states[pooling])
        for name, (before, after) in columns.items():
            if before is None or not np.array_equal(before, after):
                self._arrays.column(name).write_block(self._block, after)
        for pooling in values:
            states[pooling][self._given] = self._data.state[self._given]
            self._arrays.state(pooling).write_block(self._block, states[pooling])

    def _check_place(self) -> None:
        """Refuse rows and poolings that the key has no room for."""
        room = min(self._arrays.column("stamp").rows, len(self._stored), self._start + len(self._data.state))
        unknown = sorted(self._data.values.keys() - self._shapes.keys())
        wrong = [name for name, rows in self._data.values.items() if rows.shape[1:] != self._shapes.get(name)]
        if unknown or wrong or (len(self._given) and self._start + int(self._given[-1]) >= room):
            raise StoreError(
                f"the block does not fit: {', '.join(unknown + wrong) or 'more rows than samples'}",
                where=self._where,
                hint="Make room first: put_dataset, then create with the shapes of all poolings.",
            )

    def _cast(self, values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
        """The rows that are done, in their storage type."""
        of_sample = tuple(range(1, values.ndim))
        bad: NDArray[np.bool_] = np.logical_not(np.isfinite(values).all(axis=of_sample))
        if bad.any():
            raise BackboneError(
                f"the features of {self._sample(bad)} are not finite",
                where=self._where,
                hint="Extract with --precision fp32, and check the image and the weights.",
            )
        with np.errstate(over="ignore"):
            cast = values.astype(dtype)
        lost: NDArray[np.bool_] = np.logical_not(np.isfinite(cast).all(axis=of_sample))
        if lost.any():
            raise StorageOverflowError(
                f"the features of {self._sample(lost)} reach {np.abs(values[lost][0]).max():.4g}, too much for {dtype}",
                where=self._where,
                hint="Extract with --dtype float32.",
            )
        return cast

    def _sample(self, rows: NDArray[np.bool_]) -> str:
        return self._stored.table.sample_ids[self._start + int(self._done[rows.argmax()])]

    def _update_columns(self) -> dict[str, tuple[NDArray[Any] | None, NDArray[Any]]]:
        """Column name -> what the block has, None if it was never written, and what it shall have."""
        given, data = self._given, self._data
        new = {
            "content": data.content[given],
            "stamp": data.fingerprints[given],
            "sample_hash": self._stored.id_hashes[self._start + given],
            "reason": encode_text([data.reasons.get(row, "") for row in given.tolist()], REASON_BYTES),
        }
        updates = {}
        for name, rows in new.items():
            column = self._arrays.column(name)
            before, after = column.read_stored(self._block), column.read_block(self._block)
            after[given] = rows
            updates[name] = before, after
        return updates

    def _withdraw(self, content: tuple[NDArray[Any] | None, NDArray[Any]]) -> dict[str, NDArray[np.uint8]]:
        """Mark rows missing before anything else is touched: the given ones, and changed images in other poolings.

        Returns:
            The states that now stand in the store, by pooling.
        """
        before, after = content
        changed = np.zeros(0, dtype=np.int64) if before is None else np.flatnonzero((before != after).any(axis=1))
        states = {}
        for pooling in self._shapes:
            array = self._arrays.state(pooling)
            state = array.read_block(self._block)
            affected = self._given if pooling in self._data.values else changed
            if (state[affected] != MISSING).any():
                state[affected] = MISSING
                array.write_block(self._block, state)
            states[pooling] = state
        return states

    def _write_values(self, pooling: str, rows: NDArray[Any], state: NDArray[np.uint8]) -> None:
        """Rows that are neither new nor done are NaN, so that the same rows always make the same bytes."""
        array, kept = self._arrays.values(pooling), state == DONE
        chunk = array.fill(len(state))
        if kept.any():
            chunk[kept] = array.read_block(self._block)[kept]
        chunk[self._done] = rows
        array.write_block(self._block, chunk)
