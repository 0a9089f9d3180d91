"""Verification: every byte of a store is read again, and leftovers of killed processes are swept away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from featurestore.errors import StoreError
from featurestore.store.block_damage import find_damage
from featurestore.store.cache import read_cached
from featurestore.store.entry import FeatureEntry
from featurestore.store.layout.backends.base import PARTIAL
from featurestore.store.layout.claims import Claims
from featurestore.store.layout.names import escape, unescape
from featurestore.store.layout.writers import owner_of, touches
from featurestore.store.repair.metadata import check_arrays, is_being_made, recover_group
from featurestore.store.store import CACHE, FeatureStore
from featurestore.store.table.revisions import check_segments
from featurestore.store.table.stored_table import StoredTable
from featurestore.store.table.tables import DATASETS


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
    """Read everything in a store and compare it with its checksums, states, digests, keys and places.

    A store that was opened for writing is swept as well: unfinished files, revisions, features and cached entries of
    killed processes are deleted. What another process is writing to at this moment is left alone; see `layout.writers`.

    Args:
        store: The store.
        repair: Whether metadata is written anew from the key where it is damaged, and damaged blocks are forgotten, so
            that ``skyprobe extract`` computes them again.

    Returns:
        All problems found; none if all is well.
    """
    return list(_Verification(store, repair=repair).problems())


class _Verification:
    """One pass over a store."""

    def __init__(self, store: FeatureStore, *, repair: bool) -> None:
        self._store, self._storage, self._repair = store, store.storage, repair
        self._tables: dict[str, StoredTable] = {}

    def problems(self) -> Iterator[Problem]:
        yield from self._check_files()
        yield from self._check_cache()
        for component in self._storage.children(DATASETS):
            yield from self._check_dataset(component)
        for path in self._store.key_paths():
            yield from self._check_features(path)

    def _check_files(self) -> Iterator[Problem]:
        if not self._storage.read_only:
            self._storage.sweep_marks()
            Claims(self._storage).sweep()
        for key in self._storage.partial_files():
            if touches(key, self._storage.owners()):
                continue  # it is being written
            if not self._storage.read_only:
                self._storage.delete_file(key)
            yield self._problem(key, f"a {PARTIAL} file of a killed process", repaired=not self._storage.read_only)

    def _check_cache(self) -> Iterator[Problem]:
        for kind in self._storage.children(CACHE):
            for name in self._storage.children(f"{CACHE}/{kind}"):
                path = f"{CACHE}/{kind}/{name}"
                if read_cached(self._storage, path) is None:
                    yield from self._sweep(path, "an incomplete, damaged or misplaced entry")

    def _check_dataset(self, component: str) -> Iterator[Problem]:
        """Check one dataset; an intact one is put into the tables."""
        path = f"{DATASETS}/{component}"
        try:
            stored = self._store.tables.reread(unescape(component))
            if stored is not None:
                for other in self._store.tables.find_others(unescape(component)):
                    yield from self._sweep(other, "a revision that is not in use, or a part of one")
                check_segments(stored, stored.columns)
                self._tables[component] = stored
            elif self._storage.children(path):
                yield self._problem(path, "a dataset without a current revision: extract it again, which mends it")
        except StoreError as error:
            yield Problem(error.where, f"{error.what}: extract the dataset again, which mends it", repaired=False)
            return
        if component in self._tables and escape(self._tables[component].name) != component:
            yield self._problem(path, "the dataset of another name")

    def _check_features(self, path: str) -> Iterator[Problem]:
        stored = self._tables.get(path.split("/")[1])
        try:
            entry = self._store.open_entry(path)
        except StoreError as error:
            mended = self._may_write(path) and recover_group(self._storage, path)
            yield Problem(error.where, error.what, bool(mended))
            if not mended:
                return
            entry = self._store.open_entry(path)
        try:
            if entry is None:
                yield from self._check_unfinished(path)
            elif stored is None:
                yield self._problem(path, "features of a dataset that is absent or damaged: extract it again")
            else:
                yield from self._check_entry(entry, stored)
        except StoreError as error:
            yield Problem(error.where, error.what, repaired=False)

    def _check_unfinished(self, path: str) -> Iterator[Problem]:
        if is_being_made(self._storage, path):
            yield from self._sweep(path, "features whose making or removal was cut short")
            return
        mended = self._may_write(path) and recover_group(self._storage, path)
        yield self._problem(
            path, "features whose metadata is lost: extract again, which mends it", repaired=bool(mended)
        )

    def _check_entry(self, entry: FeatureEntry, stored: StoredTable) -> Iterator[Problem]:
        sound = True
        for name, what, mended in check_arrays(self._storage, entry, len(stored), repair=self._may_write(entry.path)):
            sound &= mended
            yield self._problem(f"{entry.path}/{name}", what, repaired=mended)
        if sound:
            yield from self._check_blocks(entry, stored)
            yield from self._check_summaries(entry)

    def _check_blocks(self, entry: FeatureEntry, stored: StoredTable) -> Iterator[Problem]:
        for block in range(max(array.n_blocks for array in entry.arrays().all(entry.shapes))):
            start = block * entry.block_rows
            samples = stored.hashes(range(start, max(start, min(start + entry.block_rows, len(stored)))))
            if damage := find_damage(entry, block, samples):
                repair = self._may_write(entry.path)
                if repair:
                    entry.discard_block(block)
                yield self._problem(entry.path, damage, f", block {block}", repaired=repair)

    def _check_summaries(self, entry: FeatureEntry) -> Iterator[Problem]:
        """Compare summaries of states with the states; a repair makes them anew."""
        repair, wrong = self._may_write(entry.path), entry.scan().find_contradictions()
        if repair:
            entry.scan().make_anew()
        for pooling in wrong:
            yield self._problem(f"{entry.path}/{pooling}", "a summary that its states contradict", repaired=repair)

    def _may_write(self, path: str) -> bool:
        return self._repair and not self._storage.read_only and owner_of(path) not in self._storage.owners()

    def _sweep(self, path: str, what: str) -> Iterator[Problem]:
        """Delete what a killed process left; what somebody is writing at this moment is not a problem."""
        if owner_of(path) in self._storage.owners():
            return
        if not self._storage.read_only:
            self._storage.delete(path)
        yield self._problem(path, what, repaired=not self._storage.read_only)

    def _problem(self, path: str, what: str, part: str = "", *, repaired: bool = False) -> Problem:
        owner = self._storage.owners().get(owner_of(path)) if self._repair and not repaired else None
        note = f"; left alone, {owner} is writing here" if owner else ""
        return Problem(self._storage.where(path) + part, what + note, repaired)
