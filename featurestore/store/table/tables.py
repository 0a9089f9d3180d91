"""DatasetTables: the datasets of a store, put, updated and read; what a reader sees is one revision or the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError, DatasetError, MissingFeaturesError
from featurestore.samples import SampleTable
from featurestore.store.commands import EXAMPLE, extract_command
from featurestore.store.layout.key_arrays import recover_block_rows
from featurestore.store.layout.names import escape, unescape
from featurestore.store.layout.storage import Storage
from featurestore.store.table import format_1
from featurestore.store.table.draft import Draft
from featurestore.store.table.revisions import check_segments, delete_others, find_others, read_revision, segment_writer
from featurestore.store.table.samples import KEPT, describe, to_columns
from featurestore.store.table.stored_table import StoredTable

DATASETS, FEATURES = "datasets", "features"

CURRENT = {1: "current", 2: "revision"}
"""Format version -> attribute of a dataset that names its valid revision. They differ, so that a store can be migrated
while others read it."""

BLOCK_ROWS = "block_rows"

Rows = NDArray[np.int64]

Read = TypeVar("Read")

Recover = Callable[[SampleTable], Sequence[str]]
"""Tells the sample id of each store row of a dataset whose table is damaged, from the dataset as it is now."""


def default_block_rows(rows: int) -> int:
    """Rows of a block of a dataset that has so many when it is first put.

    Blocks of large ones are larger, so that a store has thousands of objects, not millions.
    """
    return 512 if rows < 2**18 else 4096 if rows < 2**24 else 8192


class DatasetTables:
    """The datasets of a store.

    Args:
        storage: Where they are.
        version: Format version of the store; only the newest is written.
        block_rows: Rows of a block, if that was chosen when the store was made.
    """

    def __init__(self, storage: Storage, version: int, block_rows: int | None) -> None:
        self._storage, self._version, self._block_rows = storage, version, block_rows
        self._tables: dict[str, StoredTable] = {}
        self._unsaved: dict[str, StoredTable] = {}
        self._known_block_rows: dict[str, int] = {}

    def names(self) -> list[str]:
        """Sorted names of the datasets."""
        found = self._storage.children(DATASETS)
        return sorted(unescape(name) for name in found if self._is_put(f"{DATASETS}/{name}"))

    def current(self, path: str) -> str | None:
        """Revision that a dataset group names, or None."""
        current = (self._storage.attributes(path) or {}).get(CURRENT[self._version])
        return None if current is None else str(current)

    def source(self, name: str) -> str:
        """Where a dataset comes from, as ``KIND:PATH``; empty where that is not known. No array is read."""
        path = f"{DATASETS}/{escape(name)}"
        try:
            return str((self._storage.attributes(f"{path}/{self.current(path)}") or {}).get("source", ""))
        except CorruptStoreError:
            return ""

    def block_rows(self, name: str) -> int:
        """Rows of a block of a dataset that is there.

        Raises:
            CorruptStoreError: The dataset says something that is not a number of rows.
        """
        return self._settle_block_rows(name) if self._find_block_rows(name) else default_block_rows(0)

    def stored(self, name: str) -> StoredTable:
        """The dataset as it is now; it is opened again only when its revision changed.

        Raises:
            MissingFeaturesError: There is no such dataset.
        """
        if (unsaved := self._unsaved.get(name)) is not None:
            return unsaved
        path = f"{DATASETS}/{escape(name)}"
        current = self.current(path)
        if current is None:
            raise MissingFeaturesError(
                f"the store has no dataset {name!r}",
                where=self._storage.path,
                hint=f"Stored: {', '.join(self.names()) or 'none'}. To add it, run: "
                f"{extract_command(name, EXAMPLE, '', self._storage.path, {})}",
            )
        known = self._tables.get(name)
        if known is None or known.revision != current:
            try:
                known = self.read(path, current)
            except CorruptStoreError:
                if self.current(path) == current:
                    raise
                return self.stored(name)  # another process has switched to a new revision meanwhile
            self._tables[name] = known
        return known

    def read_whole(self, name: str, take: Callable[[StoredTable], Read]) -> Read:
        """What `take` reads of a dataset; again, if another process has switched to a new revision meanwhile."""
        stored = self.stored(name)
        try:
            return take(stored)
        except CorruptStoreError:
            if self.stored(name) is stored:
                raise
            return self.read_whole(name, take)

    def reread(self, name: str) -> StoredTable | None:
        """The dataset as it is in the store, whatever is in memory; None if it has no current revision."""
        path = f"{DATASETS}/{escape(name)}"
        current = self.current(path)
        return None if current is None else self.read(path, current)

    def find_others(self, name: str) -> list[str]:
        """Paths of what was written of a dataset, and that its current revision does not need."""
        path = f"{DATASETS}/{escape(name)}"
        current = self.current(path)
        if current is None:
            return []
        if self._version > 1:
            return find_others(self._storage, path, current)
        return [f"{path}/{child}" for child in self._storage.children(path) if child != current]

    def read(self, path: str, revision: str) -> StoredTable:
        """Open one revision of the dataset at `path`."""
        if self._version > 1:
            return read_revision(self._storage, path, revision)
        stored = format_1.read_table(self._storage, f"{path}/{revision}")
        stored.revision = revision
        return stored

    def put(self, given: SampleTable | Iterable[SampleTable], *, check: bool, volatile: bool, recover: Recover) -> Rows:
        """See `FeatureStore.put_dataset`; `recover` tells the sample ids of a dataset that is damaged."""
        if isinstance(given, SampleTable):
            return self._put_whole(given, check=check, volatile=volatile, recover=recover)
        with TemporaryDirectory(prefix="skyprobe-") as folder:
            return self._put_stream(iter(given), Path(folder))

    def _put_whole(self, table: SampleTable, *, check: bool, volatile: bool, recover: Recover) -> Rows:
        path, about, columns = f"{DATASETS}/{escape(table.name)}", describe(table), to_columns(table)
        current = self._look(path)
        if current:
            draft = Draft(about)
            rows = draft.add(columns)
            if draft.build()[0] == current and (not check or self._is_sound(path, current)):
                self._tables[table.name] = draft.in_memory(current)
                self._unsaved.pop(table.name, None)
                return rows
        self._announce(path)
        known, damaged = self._read_known(path, table, recover, check=check)
        draft = Draft(about, known)
        rows = draft.add(columns)
        draft.finish()
        if volatile:
            self._unsaved[table.name] = draft.in_memory()
        elif damaged or known is None or draft.build()[0] != known.revision:
            revision = self._write(path, draft, damaged=damaged)
            if known is None:
                self._tables[table.name] = draft.in_memory(revision)
        return rows

    def _put_stream(self, pieces: Iterator[SampleTable], folder: Path) -> Rows:
        """Put a dataset that comes in pieces, which wait on disk; a few bytes a sample are in memory."""
        table = next(pieces, None)
        if table is None:
            raise DatasetError("a dataset without a sample", where="put_dataset", hint="Give one piece at least.")
        path, about = f"{DATASETS}/{escape(table.name)}", describe(table)
        self._announce(path)
        current = self.current(path)
        draft = Draft(about, self.read(path, current) if current else None, folder)
        while table is not None:
            self._announce(path)
            draft.add(to_columns(_checked(table, about)))
            table = next(pieces, None)
        draft.finish()
        self._write(path, draft, damaged=False)
        return draft.rows()

    def _look(self, path: str) -> str | None:
        """The current revision of a dataset, if that can be known."""
        return self._try_attributes(path).get(CURRENT[self._version])

    def _is_sound(self, path: str, revision: str) -> bool:
        try:
            stored = self.read(path, revision)
            check_segments(stored, stored.columns)
        except CorruptStoreError:
            return False
        return True

    def _read_known(
        self, path: str, table: SampleTable, recover: Recover, *, check: bool
    ) -> tuple[StoredTable | None, bool]:
        """The dataset as the store has it, and whether that had to be recovered."""
        try:
            current = self.current(path)
            if current is None:
                return (StoredTable.of_ids(recover(table)), True) if self._storage.children(path) else (None, False)
            known = self.read(path, current)
            check_segments(known, known.columns if check else KEPT)
        except CorruptStoreError:
            return StoredTable.of_ids(recover(table)), True
        return known, False

    def _announce(self, path: str) -> None:
        """Say that the dataset is about to be written, before what is there is read: nobody deletes it from now on."""
        if not self._storage.read_only:
            with self._storage.writing(path):
                pass

    def _write(self, path: str, draft: Draft, *, damaged: bool) -> str:
        """Write what is new completely, then switch to it, and delete what is old unless somebody else is at it."""
        storage, known = self._storage, draft.known
        revision, attributes = draft.build(segment_writer(storage, path, known))
        if known is None or damaged or known.revision != revision:
            storage.rewrite_group(f"{path}/{revision}", attributes)
            block_rows = self._settle_block_rows(draft.about["name"], attributes["rows"])
            storage.rewrite_group(path, {CURRENT[self._version]: revision, BLOCK_ROWS: block_rows})
            if path not in storage.owners():
                delete_others(storage, path, revision)
        return revision

    def _settle_block_rows(self, name: str, rows: int = 0) -> int:
        """Rows of a block of a dataset; those of a new one follow from its size."""
        return self._known_block_rows.setdefault(name, self._find_block_rows(name) or default_block_rows(rows))

    def _is_put(self, path: str) -> bool:
        """Whether a dataset is there, be it damaged."""
        try:
            return self.current(path) is not None
        except CorruptStoreError:
            return True

    def _find_block_rows(self, name: str) -> int | None:
        """As the dataset says, else as its features have it, else as the store says; None where nothing does."""
        if name in self._known_block_rows:
            return self._known_block_rows[name]
        path = f"{DATASETS}/{escape(name)}"
        stated = self._block_rows if self._version == 1 else self._try_attributes(path).get(BLOCK_ROWS)
        if stated is None:
            features = recover_block_rows(self._storage, f"{FEATURES}/{escape(name)}", ("variant", "backbone", "key"))
            stated = features or self._block_rows
        return None if stated is None else check_block_rows(stated, self._storage.where(path))

    def _try_attributes(self, path: str) -> dict[str, Any]:
        try:
            return self._storage.attributes(path) or {}
        except CorruptStoreError:
            return {}


def check_block_rows(stated: object, where: str) -> int:
    """A number of rows.

    Raises:
        CorruptStoreError: It is none.
    """
    if not isinstance(stated, int) or stated < 1:
        raise CorruptStoreError(
            f"the store says {stated!r} for the rows of a block",
            where=where,
            hint="Restore block_rows in the attributes of its zarr.json; the chunks of state arrays have as many rows.",
        )
    return stated


def _checked(piece: SampleTable, about: Mapping[str, Any]) -> SampleTable:
    """A piece that belongs to the same dataset as the first one."""
    own = describe(piece)
    if differing := [name for name in about if own[name] != about[name] and name != "notice"]:
        raise DatasetError(
            f"pieces of a dataset differ in {', '.join(differing)}",
            where=piece.name,
            hint="Give all pieces the same name, source, classes and columns.",
        )
    return piece
