"""Garbage: what nothing in a store refers to, found and deleted while others go on writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from featurestore.errors import CorruptStoreError
from featurestore.store.cache import read_cached
from featurestore.store.dependants import find_orphans
from featurestore.store.layout.claims import CLAIMS, Claims
from featurestore.store.layout.names import unescape
from featurestore.store.layout.writers import owner_of, touches
from featurestore.store.repair.metadata import is_being_made
from featurestore.store.store import CACHE, FeatureStore
from featurestore.store.table.tables import DATASETS


@dataclass(frozen=True)
class Garbage:
    """Something that nothing refers to.

    Attributes:
        path: Its path below the root.
        what: What it is.
    """

    path: str
    what: str


def collect_garbage(store: FeatureStore, *, dry_run: bool = False) -> list[Garbage]:
    """Delete what nothing refers to, or only list it; what another process is writing to now is left alone.

    Args:
        store: The store; opened for writing unless `dry_run`.
        dry_run: Whether it is only listed.

    Returns:
        What was deleted, or would be.
    """
    storage, found = store.storage, []
    for is_file, one in _find_garbage(store):
        owned = touches(one.path, storage.owners()) if is_file else owner_of(one.path) in storage.owners()
        if owned:
            continue
        if not dry_run:
            (storage.delete_file if is_file else storage.delete)(one.path)
        found.append(one)
    return found


def _find_garbage(store: FeatureStore) -> Iterator[tuple[bool, Garbage]]:
    """What nothing refers to, and whether it is a plain file."""
    storage = store.storage
    for key in storage.partial_files():
        yield True, Garbage(key, "an unfinished file of a killed process")
    for path in storage.expired_marks():
        yield False, Garbage(path, "the mark of a writer that is gone")
    for name in Claims(storage).find_left():
        yield True, Garbage(f"{CLAIMS}/{name}", "the claim of a writer that is gone")
    for path in _find_unused_tables(store):
        yield False, Garbage(path, "a revision that is not in use, or a part of one")
    for path in store.key_paths():
        if _is_cut_short(store, path):
            yield False, Garbage(path, "features whose making or removal was cut short")
    yield from ((False, one) for one in _find_cached(store))


def _find_unused_tables(store: FeatureStore) -> Iterator[str]:
    """Revisions and segments that the current revision of their dataset does not need; none where that is damaged."""
    for component in store.storage.children(DATASETS):
        with suppress(CorruptStoreError):
            yield from store.tables.find_others(unescape(component))


def _is_cut_short(store: FeatureStore, path: str) -> bool:
    with suppress(CorruptStoreError):
        return store.open_entry(path) is None and is_being_made(store.storage, path)
    return False


def _find_cached(store: FeatureStore) -> Iterator[Garbage]:
    """Cached entries that are not complete, and those of features that are gone, if all features can be understood."""
    storage = store.storage
    for kind in storage.children(CACHE):
        for name in storage.children(f"{CACHE}/{kind}"):
            if read_cached(storage, f"{CACHE}/{kind}/{name}") is None:
                yield Garbage(f"{CACHE}/{kind}/{name}", "an incomplete, damaged or misplaced entry of the cache")
    with suppress(CorruptStoreError):
        for path in find_orphans(storage, CACHE, store.find()):
            yield Garbage(path, "a cached result of features that are gone")
