"""StoredTable: a dataset in store rows, which are handed out once and never change; columns are read when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.samples import SampleTable, hash_ids
from featurestore.store.table.columns import MemoryColumn, decode, encode
from featurestore.store.table.samples import (
    BOXES,
    HASH,
    ID,
    PRESENT,
    Arrays,
    describe,
    sample_types,
    to_columns,
    to_table,
)

Rows = NDArray[np.int64] | range


class ColumnReader(Protocol):
    """A column, in a store or in memory."""

    @property
    def edges(self) -> NDArray[np.int64]:
        """Where its segments begin and end."""
        ...

    def take(self, rows: Rows) -> NDArray[Any]:
        """The values of some ascending rows."""
        ...


class StoredTable:
    """A dataset in store rows; blank (no label, split or box) where it no longer has the sample.

    Args:
        about: Its description, see `samples.describe`.
        columns: Its columns.
        rows: Store rows.
        n_present: Samples that the dataset has now.
        revision: Digest of everything in it, 16 hexadecimal digits; empty in memory.
    """

    def __init__(
        self,
        about: Mapping[str, Any],
        columns: Mapping[str, ColumnReader],
        rows: int,
        n_present: int,
        revision: str = "",
    ) -> None:
        self.about, self.columns, self.revision = about, columns, revision
        self.n_present = n_present
        self._rows = rows

    @classmethod
    def first(cls, table: SampleTable) -> StoredTable:
        """A dataset at first sight: its order is the order of the store."""
        return cls.of_arrays(describe(table), to_columns(table))

    @classmethod
    def of_arrays(cls, about: Mapping[str, Any], arrays: Arrays) -> StoredTable:
        """A dataset whose columns are in memory; its boxes are ordered by sample."""
        order = np.argsort(arrays["box/row"], kind="stable") if about["boxes"] else None
        columns = {name: MemoryColumn(values[order] if name in BOXES else values) for name, values in arrays.items()}
        present = arrays[PRESENT]
        return cls(about, columns, len(present), int(present.sum()))

    @classmethod
    def of_ids(cls, ids: Sequence[str]) -> StoredTable:
        """A dataset of which nothing is known but the sample id of each row."""
        columns = {ID: MemoryColumn(encode(ids)), HASH: MemoryColumn(hash_ids(ids))}
        return cls({"name": ""}, columns, len(ids), len(ids))

    def __len__(self) -> int:
        return self._rows

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return str(self.about["name"])

    @property
    def source(self) -> str:
        """Where it comes from."""
        return str(self.about["source"])

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Bool (n,): whether the dataset has the sample now; nothing is read where it has all."""
        if self.n_present == self._rows:
            return np.ones(self._rows, dtype=bool)
        return self.columns[PRESENT].take(range(self._rows))

    @cached_property
    def samples(self) -> SampleTable:
        """The samples that the dataset has now, in store order."""
        return self.table if self.n_present == self._rows else self.take(np.flatnonzero(self.present))

    @cached_property
    def table(self) -> SampleTable:
        """All store rows."""
        return self.take(range(self._rows))

    @property
    def fingerprints(self) -> NDArray[np.uint64]:
        """uint64 (n,): fingerprint of each sample."""
        return self.columns["stamp"].take(range(self._rows))

    def hashes(self, rows: Rows) -> NDArray[np.uint64]:
        """uint64: hash of the sample id of some ascending rows."""
        return self.columns[HASH].take(rows)

    def ids(self, rows: Rows) -> list[str]:
        """The sample id of some ascending rows."""
        return decode(self.columns[ID].take(rows))

    def all_ids(self) -> Sequence[str]:
        """The sample id of every row."""
        return self.table.sample_ids if "table" in vars(self) else tuple(self.ids(range(self._rows)))

    def take(self, rows: Rows) -> SampleTable:
        """The table of some ascending rows; only the segments that have them are read."""
        wanted = sample_types(self.about).keys() - {HASH, PRESENT}
        columns = {name: self.columns[name].take(rows) for name in wanted}
        return to_table(self.about, columns | self._take_boxes(rows))

    def _take_boxes(self, rows: Rows) -> dict[str, NDArray[Any]]:
        if not self.about["boxes"]:
            return {}
        wanted = np.arange(rows.start, rows.stop) if isinstance(rows, range) else rows
        parts = [self._boxes_in(segment) for segment in self._segments_of(wanted)]
        boxes = (
            {name: np.concatenate([part[name] for part in parts]) for name in BOXES} if parts else self._boxes_in(None)
        )
        place = np.searchsorted(wanted, boxes["box/row"])
        kept = (
            np.flatnonzero(wanted[np.minimum(place, len(wanted) - 1)] == boxes["box/row"]) if len(wanted) else place[:0]
        )
        return {name: values[kept] for name, values in boxes.items()} | {"box/row": place[kept]}

    def _segments_of(self, rows: NDArray[np.int64]) -> list[int]:
        """Segments of samples that have these rows."""
        found: list[int] = np.unique(np.searchsorted(self.columns[PRESENT].edges, rows, side="right") - 1).tolist()
        return found

    def _boxes_in(self, segment: int | None) -> dict[str, NDArray[Any]]:
        """The boxes of one segment of samples; none for None."""
        edges = self.columns["box/row"].edges
        own = range(0) if segment is None else range(int(edges[segment]), int(edges[segment + 1]))
        return {name: self.columns[name].take(own) for name in BOXES}
