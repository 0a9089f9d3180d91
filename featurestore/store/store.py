"""FeatureStore: embeddings of many datasets, variants and backbones in one Zarr v3 hierarchy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError, StoreError, UsageError
from featurestore.samples import SampleTable
from featurestore.store.cache import CacheEntry, list_cached, read_cached, write_cached
from featurestore.store.dependants import find_dependants
from featurestore.store.entry import PLACE, FeatureEntry
from featurestore.store.features import FeatureSet
from featurestore.store.key import DTYPES, FeatureKey
from featurestore.store.layout.key_arrays import KeyArrays, Shapes, read_shapes, write_shapes
from featurestore.store.layout.names import escape, unescape
from featurestore.store.layout.storage import Storage
from featurestore.store.query import Request, choose
from featurestore.store.repair.dataset import recover_ids
from featurestore.store.repair.metadata import COPY, copy_of, recover_attributes, recover_group
from featurestore.store.table.stored_table import StoredTable
from featurestore.store.table.tables import DATASETS, FEATURES, DatasetTables

CACHE = "derived"


class FeatureStore:
    """A store; made by `open_store`.

    Attributes:
        path: Folder or URL.
        version: Format version.
        tables: The datasets in store rows.
        volatile: Whether datasets and cached results that are put last as long as this object.
    """

    def __init__(self, storage: Storage, version: int, block_rows: int | None, *, volatile: bool = False) -> None:
        self.storage = storage
        self.path = storage.path
        self.version = version
        self.volatile = volatile
        self.tables = DatasetTables(storage, version, block_rows)
        self._unsaved_cache: dict[tuple[str, str], CacheEntry] = {}

    def __repr__(self) -> str:
        return f"FeatureStore({self.path!r})"

    def close(self) -> None:
        """Say that no more is written for now: until then, or a minute after, ``verify --repair`` leaves it alone."""
        self.storage.end_writing()

    def put_dataset(self, table: SampleTable | Iterable[SampleTable], *, check: bool = False) -> NDArray[np.int64]:
        """Make the store know a dataset, or what changed in it; a known one costs one metadata read.

        At first sight its order becomes the order of the rows. Afterwards known ids keep their row, new ones are
        appended, rows of removed ones stay blank; labels, splits and boxes become those of `table`. A stored table that
        is damaged is written anew, in the order that is still known.

        Args:
            table: The dataset as it is now; or pieces of it, of some 10^5 samples each, which wait on the local disk:
                a few bytes a sample are in memory.
            check: Whether a table that is known already is read, to find out whether it is damaged.

        Returns:
            int64 (n,): store row of each row of `table`.

        Raises:
            DatasetError: A sample comes twice, or pieces do not belong together.
        """
        return self.tables.put(table, check=check, volatile=self.volatile, recover=self._recover_ids)

    def _recover_ids(self, table: SampleTable) -> Sequence[str]:
        path, keys = f"{DATASETS}/{escape(table.name)}", self.key_paths(table.name)
        return recover_ids(self.storage, path, table, keys, self.block_rows(table.name))

    def block_rows(self, dataset: str) -> int:
        """Rows of a block of a dataset: what is committed at once, and never shared by two writers."""
        return self.tables.block_rows(dataset)

    def dataset(self, name: str) -> SampleTable:
        """The samples that a dataset has now, in store order.

        Raises:
            MissingFeaturesError: The store does not know the dataset.
        """
        return self.tables.read_whole(name, lambda stored: stored.samples)

    def sample_ids(self, name: str) -> Sequence[str]:
        """The sample id of every store row of a dataset, those that it no longer has included.

        Raises:
            MissingFeaturesError: The store does not know the dataset.
        """
        return self.tables.read_whole(name, StoredTable.all_ids)

    def source(self, name: str) -> str:
        """Where a dataset comes from, as ``KIND:PATH``; empty where that is not known. No array is read."""
        return self.tables.source(name)

    def datasets(self) -> list[str]:
        """Sorted names of the datasets."""
        return self.tables.names()

    def create(
        self,
        dataset: str,
        variant: str,
        backbone: str,
        key: FeatureKey,
        shapes: Shapes,
        provenance: Mapping[str, Any],
    ) -> FeatureEntry:
        """Make room for features of a dataset that `put_dataset` knows; what exists already is kept.

        Args:
            dataset: Name of the dataset; there is room for all its rows afterwards.
            variant: Name of the variant.
            backbone: Name of the backbone.
            key: Identity of the features.
            shapes: Pooling -> shape of one sample's features, (D,) or (h, w, D); new poolings are added to an
                existing key.
            provenance: Where the features come from; JSON-ready. An existing key keeps its own.
        """
        if key.dtype not in DTYPES:
            raise UsageError(f"unknown storage dtype {key.dtype!r}", where="dtype", hint=f"Use {' or '.join(DTYPES)}.")
        path = "/".join([FEATURES, *map(escape, (dataset, variant, backbone)), key.short])
        rows = len(self.tables.stored(dataset))
        known = self._known(path, key)
        poolings = _joined(read_shapes(known.get("poolings", [])), shapes, self.storage.where(path))
        made = {"key": key.to_dict(), "sha256": key.sha256, "provenance": dict(provenance), "requests": []}
        if not known:
            made[PLACE] = path
        attributes = made | known | {"poolings": write_shapes(poolings)}
        KeyArrays(self.storage, path, self.block_rows(dataset)).create(poolings, key.dtype, rows)
        if copy_of(attributes) != self.storage.array_attributes(f"{path}/{COPY}"):
            self.storage.set_array_attributes(f"{path}/{COPY}", copy_of(attributes))
        if attributes != known:
            self.storage.rewrite_group(path, attributes)
        return self._entry(path, attributes)

    def mend(self, entry: FeatureEntry) -> FeatureEntry:
        """The same features with room for all rows, and with metadata that can be understood; chunks stay."""
        return self.create(entry.dataset, entry.variant, entry.backbone, entry.key, entry.shapes, entry.provenance)

    def find(
        self,
        dataset: str | None = None,
        variant: str | None = None,
        backbone: str | None = None,
        *,
        pooling: str | None = None,
        skip_damaged: bool = False,
        **fields: Any,
    ) -> list[FeatureEntry]:
        """All features that match; None matches everything.

        Args:
            dataset: Name of the dataset.
            variant: Name of the variant.
            backbone: Name of the backbone.
            pooling: Name of a pooling that must be there.
            skip_damaged: Whether features whose metadata is damaged count as absent: an extraction makes it anew.
            fields: Fields of the key, such as ``precision="fp32"``; ``key`` is the start of its SHA-256.

        Raises:
            UnknownNameError: The key has no such field.
            CorruptStoreError: Metadata is damaged.
        """
        request, found = Request(dataset, variant, backbone, pooling, fields), []
        for path in self.key_paths(dataset, variant, backbone):
            with suppress(*([CorruptStoreError] if skip_damaged else [])):
                found.append(self.open_entry(path))
        return [entry for entry in found if entry is not None and request.matches(entry)]

    def key_paths(
        self, dataset: str | None = None, variant: str | None = None, backbone: str | None = None
    ) -> list[str]:
        """Paths of all groups of keys that match, whatever state they are in; None matches everything."""
        paths = [FEATURES]
        for name in (dataset, variant, backbone, None):
            paths = [f"{path}/{child}" for path in paths for child in self._children(path, name)]
        return paths

    def select(
        self,
        dataset: str | None = None,
        variant: str | None = None,
        backbone: str | None = None,
        *,
        pooling: str | None = None,
        **fields: Any,
    ) -> FeatureEntry:
        """The one match; arguments as in `find`.

        Raises:
            MissingFeaturesError: Nothing matches; the message gives the command that extracts it.
            AmbiguousFeaturesError: Several match; the message lists them and how to choose.
        """
        found = self.find(dataset, variant, backbone, pooling=pooling, **fields)
        others = [] if found else self.find(dataset)
        request = Request(dataset, variant, backbone, pooling, fields)
        return choose(found, others, request, self._data_argument(dataset, others), self.path)

    def load(
        self, dataset: str, variant: str, backbone: str, *, pooling: str | None = None, **fields: Any
    ) -> FeatureSet:
        """Select and read; arguments as in `find`, errors as in `select` and `FeatureEntry.read`."""
        return self.select(dataset, variant, backbone, pooling=pooling, **fields).read(pooling)

    def dependants(self, entry: FeatureEntry) -> list[tuple[str, str]]:
        """Kind and digest of what was computed from features and cached: runs, saved heads, projections."""
        others = [other for other in self.find() if other.path != entry.path]
        return [(kind, unescape(name)) for kind, name in find_dependants(self.storage, CACHE, entry, others)]

    def remove(self, entry: FeatureEntry) -> None:
        """Delete features, and what was computed from them; ``skyprobe verify --repair`` completes a removal."""
        for kind, digest in self.dependants(entry):
            self.storage.delete(f"{CACHE}/{escape(kind)}/{escape(digest)}")
        self.storage.set_attributes(entry.path, {"removed": True})
        self._delete(entry.path)

    def _delete(self, path: str) -> None:
        """Delete a group, whose own metadata goes last: until then it says what is under way."""
        for name in self.storage.children(path):
            self.storage.delete(f"{path}/{name}")
        self.storage.delete(path)

    def get_cached(self, kind: str, digest: str) -> CacheEntry | None:
        """What was computed from features before, or None.

        Args:
            kind: What it is, for example ``projection``.
            digest: Digest of everything that decides it.
        """
        if (unsaved := self._unsaved_cache.get((kind, digest))) is not None:
            return unsaved
        return read_cached(self.storage, f"{CACHE}/{escape(kind)}/{escape(digest)}")

    def put_cached(
        self, kind: str, digest: str, arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]
    ) -> None:
        """Keep what was computed from features: arrays of numbers, and attributes that JSON can hold."""
        if self.volatile:
            self._unsaved_cache[kind, digest] = CacheEntry(dict(arrays), dict(attributes))
            return
        write_cached(self.storage, f"{CACHE}/{escape(kind)}/{escape(digest)}", arrays, attributes)

    def list_cached(self, kind: str) -> list[str]:
        """Sorted digests of the complete entries of one kind."""
        unsaved = {digest for known, digest in self._unsaved_cache if known == kind}
        return sorted({*list_cached(self.storage, f"{CACHE}/{escape(kind)}"), *unsaved})

    def _data_argument(self, dataset: str | None, others: Sequence[FeatureEntry]) -> str:
        """What the user calls a dataset, or the first that there is: where it comes from, if that is known."""
        name = dataset or next((one.dataset for one in others), "")
        return name and (self.source(name) or name)

    def _known(self, path: str, key: FeatureKey) -> dict[str, Any]:
        """Attributes of a key's group that is there already; what can be known of them where they are lost.

        A removal that was cut short is completed first.
        """
        try:
            known = self.storage.attributes(path) or {}
        except CorruptStoreError:
            known = {}
        if "removed" in known:
            self._delete(path)
            return {}
        if "key" not in known and self.storage.has_chunks(path):
            recover_group(self.storage, path)
            known = recover_attributes(self.storage, path)
        if known.get("sha256", key.sha256) != key.sha256:
            raise StoreError(
                "two keys begin with the same 12 digits", where=self.storage.where(path), hint="Use another store."
            )
        return known

    def _children(self, path: str, name: str | None) -> list[str]:
        return self.storage.children(path) if name is None else [escape(name)]

    def open_entry(self, path: str) -> FeatureEntry | None:
        """The features at a path below the root; None while they are being made or removed."""
        attributes = self.storage.attributes(path) or {}
        return None if "key" not in attributes or "removed" in attributes else self._entry(path, attributes)

    def _entry(self, path: str, attributes: Mapping[str, Any]) -> FeatureEntry:
        _, dataset, variant, backbone, _ = map(unescape, path.split("/"))
        names = (dataset, variant, backbone)
        return FeatureEntry(
            self.storage, path, names, attributes, partial(self.tables.stored, dataset), self.block_rows(dataset)
        )


def _joined(known: Shapes, shapes: Shapes, where: str) -> dict[str, tuple[int, ...]]:
    """Poolings that are there, then those that come new."""
    joined = dict(known)
    for pooling, shape in shapes.items():
        if joined.setdefault(pooling, shape) != shape:
            raise StoreError(
                f"{pooling} has {_size(joined[pooling])} features here, not {_size(shape)}",
                where=where,
                hint="The same key must give the same features: state what differs in the key.",
            )
    return joined


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
