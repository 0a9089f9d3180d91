"""Draft: a dataset as it is now, in store rows, on its way into the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DatasetError
from featurestore.store.table.pieces import Pieces
from featurestore.store.table.revisions import Write, build_revision, kept, name_revision, write_nothing
from featurestore.store.table.rows import RowAllocation
from featurestore.store.table.samples import HASH, Arrays, box_types, sample_types
from featurestore.store.table.stored_table import StoredTable


class Draft:
    """What becomes the next revision of a dataset: known samples keep their row, new ones follow, others stay blank.

    Args:
        about: Its description, see `samples.describe`.
        known: The dataset before; None for a new one.
        folder: Where pieces wait on disk; None keeps them in memory.
    """

    def __init__(self, about: Mapping[str, Any], known: StoredTable | None = None, folder: Path | None = None) -> None:
        self.about, self.known = about, known
        self._pieces, self._allocation = Pieces(folder), RowAllocation(known)

    def add(self, columns: Arrays) -> NDArray[np.int64]:
        """Add samples; their store rows."""
        rows = self._allocation.place(columns[HASH])
        self._pieces.append(columns, rows)
        return rows

    def finish(self) -> None:
        """Say that all samples are there.

        Raises:
            DatasetError: Sample ids came more than once.
        """
        self._allocation.finish()
        if twice := self._allocation.twice:
            names = ", ".join(self._pieces.names_of(np.concatenate(twice)))
            raise DatasetError(
                f"sample ids occur more than once: {names}", where=self.about["name"], hint="Make ids unique."
            )

    def rows(self) -> NDArray[np.int64]:
        """int64 (n,): the store row of each sample, in the order in which they came."""
        return self._pieces.rows()

    def build(self, write: Write = write_nothing) -> tuple[str, dict[str, Any]]:
        """Name and attributes of the revision; `write` takes its segments."""
        attributes = build_revision(self.about, self._pieces, self._allocation.n_rows, self.known, write)
        return name_revision(attributes), attributes

    def in_memory(self, revision: str = "") -> StoredTable:
        """The dataset, all of it in memory."""
        span = range(self._allocation.n_rows)
        columns: dict[str, NDArray[Any]] = {
            name: self._pieces.gather(name, kind, span, kept(self.known, name, span))
            for name, kind in sample_types(self.about).items()
        }
        if box_types(self.about):
            columns |= self._pieces.gather_boxes(span)
        stored = StoredTable.of_arrays(self.about, columns)
        stored.revision = revision
        return stored
