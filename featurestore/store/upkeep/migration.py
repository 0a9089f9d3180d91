"""Migration: a store of format 1 becomes one of format 2; features, states and cached results stay where they are.

Sample tables are written anew beside the old ones, then the root is switched, then the old tables are deleted. Wherever
this stops, the store is whole: before the switch it is one of format 1, afterwards one of format 2. Run again, it goes
on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featurestore.errors import CorruptStoreError, StoreError, StoreFormatError
from featurestore.store.layout.names import unescape
from featurestore.store.layout.storage import Storage
from featurestore.store.opening import FORMAT, FORMAT_VERSION, default_store_path, read_root, root_attributes
from featurestore.store.table import format_1
from featurestore.store.table.draft import Draft
from featurestore.store.table.revisions import delete_others, read_revision, segment_writer
from featurestore.store.table.tables import BLOCK_ROWS, CURRENT, DATASETS

OLD, NEW = CURRENT[1], CURRENT[2]


@dataclass(frozen=True)
class Migrated:
    """A dataset of a migrated store.

    Attributes:
        dataset: Its name.
        rows: Its store rows; 0 where its table is damaged.
        note: What is wrong with it, and what mends it; empty if nothing is.
    """

    dataset: str
    rows: int
    note: str = ""


def migrate(path: str | None = None) -> list[Migrated]:
    """Turn a store of format 1 into one of format 2; one of format 2 is left as it is.

    Args:
        path: A folder or URL; `default_store_path` for None.

    Raises:
        StoreFormatError: This is not a skyprobe store, or one of a newer version.
        StoreError: Another process is writing to it.
    """
    storage = Storage(str(path or default_store_path()), read_only=False)
    attributes = read_root(storage) or {}
    version = attributes.get("format_version")
    if attributes.get("format") != FORMAT or version not in {1, FORMAT_VERSION}:
        raise StoreFormatError(
            f"this is not a skyprobe store of version 1 or {FORMAT_VERSION}",
            where=storage.path,
            hint="Name another folder by --store.",
        )
    if version == 1:
        _refuse_writers(storage)
        for name in storage.children(DATASETS):
            _write_new_table(storage, f"{DATASETS}/{name}", attributes[BLOCK_ROWS])
        _refuse_writers(storage)
        storage.rewrite_group("", root_attributes(None))
    found = [_drop_old_table(storage, name) for name in storage.children(DATASETS)]
    storage.end_writing()
    return found


def _refuse_writers(storage: Storage) -> None:
    for place, owner in storage.owners().items():
        raise StoreError(
            f"{owner} is writing to {place}",
            where=storage.path,
            hint="Wait until it is done, a minute after a kill, and run skyprobe migrate again.",
        )


def _write_new_table(storage: Storage, path: str, block_rows: int) -> None:
    """Write the table of one dataset in the new format, and name it beside the old one; a damaged one is left out."""
    try:
        attributes = storage.attributes(path) or {}
        stored = format_1.read_table(storage, f"{path}/{attributes[OLD]}")
    except (CorruptStoreError, KeyError):
        return
    draft = Draft(stored.about)
    draft.add({name: column.take(range(int(column.edges[-1]))) for name, column in stored.columns.items()})
    revision, new = draft.build(segment_writer(storage, path, None))
    storage.rewrite_group(f"{path}/{revision}", new)
    storage.rewrite_group(path, {OLD: attributes[OLD], NEW: revision, BLOCK_ROWS: block_rows})


def _drop_old_table(storage: Storage, component: str) -> Migrated:
    path, name = f"{DATASETS}/{component}", unescape(component)
    try:
        attributes: dict[str, Any] = storage.attributes(path) or {}
        stored = read_revision(storage, path, str(attributes.get(NEW)))
    except CorruptStoreError as error:
        return Migrated(name, 0, f"{error.what}: extract the dataset again, which mends it")
    if OLD in attributes:
        storage.rewrite_group(path, {field: value for field, value in attributes.items() if field != OLD})
        delete_others(storage, path, stored.revision)
    return Migrated(name, len(stored))
