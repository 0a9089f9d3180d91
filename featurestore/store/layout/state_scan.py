"""StateScan: the states of all rows of a key, out of summaries where they tell, out of blocks where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featurestore.store.layout.block_summary import (
    BlockSummary,
    Summary,
    digest_rows,
    forget_withdrawn,
    may_be_summarised,
)
from featurestore.store.layout.key_arrays import DONE, MISSING, UNREADABLE, KeyArrays

Mask = NDArray[np.bool_]


class StateScan:
    """One pass over the states of some poolings.

    Args:
        arrays: The arrays of the key.
        poolings: The poolings, one at least.
        rows: Rows of the dataset.
    """

    def __init__(self, arrays: KeyArrays, poolings: Sequence[str], rows: int) -> None:
        self._arrays, self._poolings, self.rows = arrays, poolings, rows
        size = arrays.block_rows
        self.n_blocks = -(-rows // size)
        self._sizes = np.minimum(size, rows - np.arange(self.n_blocks, dtype=np.int64) * size)
        self._summarised = may_be_summarised(rows, size)

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """Pooling -> what its summary says."""
        return {name: self._summary(name).read() for name in self._poolings}

    def find_pending(self, fingerprints: NDArray[np.uint64], *, retry_unreadable: bool) -> Mask:
        """Bool (n,): rows that are missing in a pooling, or whose fingerprint is another."""
        known = np.zeros(self.n_blocks, dtype=bool)
        if self._summarised:
            known = self._complete.copy()
            for block in np.flatnonzero(known).tolist():
                known[block] = self._is_as_it_was(block, fingerprints, retry_unreadable=retry_unreadable)
        pending = np.ones(self.rows, dtype=bool)
        pending[self._rows_of(known)] = False
        rows = self._rows_of(~known & self._written)
        stamps = self._arrays.column("stamp").read_rows(rows)
        states = [self._arrays.state(name).read_rows(rows) for name in self._poolings]
        pending[rows] = find_waiting(stamps, states, fingerprints[rows], retry_unreadable)
        return pending

    def count(self, present: Mask | None) -> tuple[int, int]:
        """Unreadable and missing rows; a row is as far as its last pooling.

        Args:
            present: bool (n,), rows that count; all for None.
        """
        known = np.zeros(self.n_blocks, dtype=bool)
        unreadable = 0
        if self._summarised:
            known = self._complete & self._agree & self._whole(present)
            unreadable = int(self.summaries[self._poolings[0]].unreadable[known].sum())
        rows = self._rows_of(~known & self._written)
        states = [self._arrays.state(name).read_rows(rows) for name in self._poolings]
        counted = np.ones(len(rows), dtype=bool) if present is None else present[rows]
        missing = np.any([state == MISSING for state in states], axis=0)
        failed = np.any([state == UNREADABLE for state in states], axis=0)
        unwritten = self._rows_of(~known & ~self._written)
        absent = len(unwritten) if present is None else int(present[unwritten].sum())
        return unreadable + int((failed & ~missing & counted).sum()), absent + int((missing & counted).sum())

    def find_unreadable(self) -> NDArray[np.int64]:
        """int64: rows that are unreadable in any pooling."""
        clean = np.zeros(self.n_blocks, dtype=bool)
        if self._summarised:
            clean = self._complete & np.all([one.unreadable == 0 for one in self.summaries.values()], axis=0)
        rows = self._rows_of(~clean & self._written)
        states = [self._arrays.state(name).read_rows(rows) for name in self._poolings]
        return rows[np.any([state == UNREADABLE for state in states], axis=0)]

    def summarise(self) -> None:
        """Note the blocks that are complete, and that no summary tells of."""
        if not self._summarised:
            return
        for name in self._poolings:
            blocks = np.flatnonzero(~self.summaries[name].complete & self._written).tolist()
            state, stamp = self._arrays.state(name), self._arrays.column("stamp")
            found = {}
            for block in blocks:
                rows = state.read_block(block)[: self._sizes[block]]
                if len(rows) == self._sizes[block] and (rows != MISSING).all():
                    found[block] = rows, stamp.read_block(block)[: len(rows)]
            if found:
                self._summary(name).note(found)

    def find_contradictions(self) -> list[str]:
        """Poolings whose summary says something of a block that its states do not."""
        found = []
        for name in self._poolings if self._summarised else ():
            summary, state = self.summaries[name], self._arrays.state(name)
            blocks = np.flatnonzero(summary.complete).tolist()
            if any(digest_rows(state.read_block(block)) != int(summary.states[block]) for block in blocks):
                found.append(name)
        return found

    def make_anew(self) -> None:
        """Forget summaries and which blocks were withdrawn, and look at all blocks again; nobody may be writing."""
        if self._summarised:
            for name in self._poolings:
                self._summary(name).forget()
            forget_withdrawn(self._arrays.storage, self._arrays.path)
            StateScan(self._arrays, self._poolings, self.rows).summarise()

    def _summary(self, pooling: str) -> BlockSummary:
        return BlockSummary(self._arrays.storage, self._arrays.path, pooling, self._sizes)

    @cached_property
    def _complete(self) -> Mask:
        """Bool (blocks,): complete in all poolings."""
        complete: Mask = np.all([summary.complete for summary in self.summaries.values()], axis=0)
        return complete

    @cached_property
    def _agree(self) -> Mask:
        """Bool (blocks,): whether all poolings have the same states."""
        states = [summary.states for summary in self.summaries.values()]
        agree: Mask = np.all([state == states[0] for state in states], axis=0)
        return agree

    @cached_property
    def _written(self) -> Mask:
        """Bool (blocks,): blocks of which anything may be written; found by one listing."""
        if not self._summarised:
            return np.ones(self.n_blocks, dtype=bool)
        written = np.zeros(self.n_blocks, dtype=bool)
        for name in self._poolings:
            found = [int(chunk) for chunk in self._arrays.state(name).list_chunks()]
            written[[block for block in found if block < self.n_blocks]] = True
        return written

    def _is_as_it_was(self, block: int, fingerprints: NDArray[np.uint64], *, retry_unreadable: bool) -> bool:
        start = block * self._arrays.block_rows
        now = digest_rows(fingerprints[start : start + self._arrays.block_rows])
        return all(
            int(summary.stamps[block]) == now and not (retry_unreadable and summary.unreadable[block])
            for summary in self.summaries.values()
        )

    def _whole(self, present: Mask | None) -> Mask:
        """Bool (blocks,): all of whose rows are present."""
        if present is None:
            return np.ones(self.n_blocks, dtype=bool)
        starts = np.arange(self.n_blocks) * self._arrays.block_rows
        whole: Mask = np.logical_and.reduceat(present, starts) if len(present) else np.zeros(0, dtype=bool)
        return whole

    def _rows_of(self, blocks: Mask) -> NDArray[np.int64]:
        """Rows of these blocks."""
        return np.flatnonzero(np.repeat(blocks, self._sizes))


def find_waiting(
    stamp: NDArray[np.uint64],
    states: Sequence[NDArray[np.uint8]],
    fingerprints: NDArray[np.uint64],
    retry_unreadable: bool,
) -> NDArray[np.bool_]:
    """Rows whose image changed, or that are not done in one of the poolings."""
    waiting: NDArray[np.bool_] = stamp != fingerprints
    for state in states:
        waiting |= (state != DONE) if retry_unreadable else (state == MISSING)
    return waiting
