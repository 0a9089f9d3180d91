"""Which store row each sample has: known ids keep theirs, new ones follow in their order; by hashes, not by strings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from featurestore.store.table.stored_table import StoredTable

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

_PART_ROWS = 2**24
"""Rows that are sorted at once, which bounds memory while the index is made."""

_STEP = 2**20
"""Hashes of stored rows that are read at once."""


class RowIndex:
    """Hash of the sample id -> store row: sorted arrays, 12 bytes a row.

    Args:
        stored: The dataset as it is known.
    """

    def __init__(self, stored: StoredTable) -> None:
        n_parts = 1 << ((len(stored) - 1) // _PART_ROWS).bit_length()
        shift = np.uint64(64 - n_parts.bit_length() + 1)
        self._hashes = np.empty(len(stored), dtype=np.uint64)
        self._rows = np.empty(len(stored), dtype=np.uint32 if len(stored) < 2**32 else np.int64)
        filled = 0
        for part in range(n_parts):
            own = [self._pick(start, found, part, shift, n_parts) for start, found in _steps(stored)]
            hashes, rows = (np.concatenate([one[side] for one in own]) for side in (0, 1))
            order = np.argsort(hashes)
            end = filled + len(order)
            self._hashes[filled:end], self._rows[filled:end] = hashes[order], rows[order]
            filled = end

    @staticmethod
    def _pick(start: int, found: Hashes, part: int, shift: np.uint64, n_parts: int) -> tuple[Hashes, Rows]:
        """Hashes that begin with the bits of a part, and their rows."""
        if n_parts == 1:
            return found, np.arange(start, start + len(found))
        own = np.flatnonzero(found >> shift == part)
        return found[own], own + start

    def find(self, hashes: Hashes) -> Rows:
        """int64: the store row of each; -1 where it is unknown."""
        place = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        return np.where(self._hashes[place] == hashes, self._rows[place].astype(np.int64), -1)


def _steps(stored: StoredTable) -> Iterator[tuple[int, Hashes]]:
    for start in range(0, len(stored), _STEP):
        yield start, stored.hashes(range(start, min(start + _STEP, len(stored))))


class RowAllocation:
    """Hands out store rows to samples, piece after piece.

    As long as samples come in the order of the store, nothing is kept of what is known but how far they have come;
    only then an index is made.

    Args:
        known: The dataset as the store has it; None where it has none.

    Attributes:
        n_rows: Store rows so far.
        twice: Hashes that came more than once.
    """

    def __init__(self, known: StoredTable | None) -> None:
        self._known, self._n_known = known, 0 if known is None else len(known)
        self.n_rows = self._n_known
        self.twice: list[Hashes] = []
        self._in_order = 0
        self._index: RowIndex | None = None
        self._seen = np.zeros(0, dtype=bool)
        self._fresh: list[Hashes] = []

    def place(self, hashes: Hashes) -> Rows:
        """int64: the store rows of the next samples."""
        if self._index is None:
            head = min(len(hashes), self._n_known - self._in_order)
            if self._continues(hashes[:head]):
                start, self._in_order = self._in_order, self._in_order + head
                return np.append(np.arange(start, start + head), self._append(hashes[head:]))
        rows = self._find(hashes)
        known = rows >= 0
        again = _repeated(rows[known]) | self._seen[rows[known]]
        if again.any():
            self.twice.append(hashes[known][again])
        self._seen[rows[known]] = True
        rows[~known] = self._append(hashes[~known])
        return rows

    def finish(self) -> None:
        """Look for samples that came more than once among those that are new."""
        if not self._fresh:
            return
        fresh = np.empty(sum(map(len, self._fresh)), dtype=np.uint64)
        end = len(fresh)
        while self._fresh:  # what is copied is freed at once
            part = self._fresh.pop()
            fresh[end - len(part) : end] = part
            end -= len(part)
        fresh.sort()
        again = fresh[1:][fresh[1:] == fresh[:-1]]
        if len(again):
            self.twice.append(again)
        if self._known is not None and self._index is None:
            for _, hashes in _steps(self._known):
                place = np.minimum(np.searchsorted(fresh, hashes), len(fresh) - 1)
                if (found := hashes[fresh[place] == hashes]).size:
                    self.twice.append(found)

    def _continues(self, hashes: Hashes) -> bool:
        """Whether these samples are those that the store has next; true of none."""
        span = range(self._in_order, self._in_order + len(hashes))
        return self._known is None or not len(hashes) or np.array_equal(self._known.hashes(span), hashes)

    def _find(self, hashes: Hashes) -> Rows:
        if self._index is None and self._known is not None:
            self._index = RowIndex(self._known)
            self._seen = np.zeros(self._n_known, dtype=bool)
            self._seen[: self._in_order] = True
        return np.full(len(hashes), -1) if self._index is None else self._index.find(hashes)

    def _append(self, hashes: Hashes) -> Rows:
        rows = np.arange(self.n_rows, self.n_rows + len(hashes))
        if len(hashes):
            self._fresh.append(hashes)
        self.n_rows += len(hashes)
        return rows


def _repeated(rows: Rows) -> NDArray[np.bool_]:
    """bool: whether a row came before among these."""
    repeated = np.ones(len(rows), dtype=bool)
    repeated[np.unique(rows, return_index=True)[1]] = False
    return repeated
