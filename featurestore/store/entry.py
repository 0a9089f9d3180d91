"""FeatureEntry: the embeddings of one dataset under one key, written block by block and trusted row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError, MissingFeaturesError, StoreError, UsageError
from featurestore.store.commands import extract_command
from featurestore.store.features import FeatureSet
from featurestore.store.key import DENSE, FeatureKey
from featurestore.store.layout.block_commit import Block, BlockCommit
from featurestore.store.layout.block_summary import may_be_summarised, withdraw
from featurestore.store.layout.key_arrays import CONTENT_BYTES, DONE, MISSING, UNREADABLE, KeyArrays, read_shapes
from featurestore.store.layout.row_checks import UNCHECKED, compute_checks
from featurestore.store.layout.state_scan import StateScan, find_waiting
from featurestore.store.layout.storage import Storage
from featurestore.store.layout.text import decode_text
from featurestore.store.stored_features import StoredFeatures
from featurestore.store.table.stored_table import StoredTable

__all__ = ["DONE", "MISSING", "UNREADABLE", "Block", "Counts", "FeatureEntry"]


PLACE = "place"
"""Attribute of a key: the path that it was made at. A key that has it was made with row checks from the start."""


class Counts(NamedTuple):
    """Rows by state."""

    done: int
    unreadable: int
    missing: int


class Origins(NamedTuple):
    """What k rows were computed from.

    Attributes:
        done: bool (k,), whether there are features at all; the others are zeros.
        fingerprints: uint64 (k,), see `SampleTable.fingerprints`.
        content: uint8 (k, 16), digest of each image.
    """

    done: NDArray[np.bool_]
    fingerprints: NDArray[np.uint64]
    content: NDArray[np.uint8]


class FeatureEntry:
    """One group ``features/DATASET/VARIANT/BACKBONE/KEY12`` of a store; made by `FeatureStore`, not by hand.

    Attributes:
        path: Path of the group below the root of the store.
        dataset: Name of the dataset.
        variant: Name of the preprocessing variant.
        backbone: Name of the backbone.
        key: Identity of the features.
        provenance: Where they come from.
        shapes: Pooling -> shape of one sample's features, (D,) or (h, w, D), in the order in which the poolings were
            first asked for.
        block_rows: Rows of a block.
        bound: Whether every row carries a check that binds it to its place; rows of older features may have none.

    Raises:
        CorruptStoreError: The attributes are not those of features at this place.
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        names: tuple[str, str, str],
        attributes: Mapping[str, Any],
        load_table: Callable[[], StoredTable],
        block_rows: int,
    ) -> None:
        self.path = path
        self.dataset, self.variant, self.backbone = names
        self.key, self.provenance, self.shapes = _parse(attributes, storage, path)
        self.bound = PLACE in attributes
        self._storage = storage
        self._load_table = load_table
        self.block_rows = block_rows
        self._check_place(attributes)

    def __repr__(self) -> str:
        return f"FeatureEntry({self.path!r}, {', '.join(self.shapes)})"

    @property
    def requests(self) -> list[str]:
        """Digests of the requests that led here, as they are in the store now."""
        return list((self._storage.attributes(self.path) or {}).get("requests", []))

    def add_request(self, digest: str) -> None:
        """Note a request, so that the next equal one finds these features without loading a model."""
        requests = self.requests
        if digest not in requests:
            self._storage.set_attributes(self.path, {"requests": [*requests, digest]})

    @property
    def nbytes(self) -> int:
        """Bytes of the values of all poolings."""
        arrays = self.arrays()
        itemsize = np.dtype(self.key.dtype).itemsize
        return sum(arrays.values(name).rows * prod(shape) * itemsize for name, shape in self.shapes.items())

    @property
    def extract_command(self) -> str:
        """The command that completes these features."""
        return self.command_from(self._load_table().source)

    def command_from(self, source: str) -> str:
        """The same, where the dataset comes from `source`; empty: from where it came at first."""
        source = source or str(self.provenance.get("dataset_source") or self.dataset)
        options = {**self.key.to_dict(), "weights": self.provenance.get("weights")}
        if DENSE in self.shapes:  # which is made only when it is named
            options["pooling"] = tuple(self.shapes)
        return extract_command(source, self.backbone, self.variant, self._storage.path, options)

    def pending(
        self,
        fingerprints: NDArray[np.uint64],
        present: NDArray[np.bool_],
        *,
        poolings: Iterable[str] | None = None,
        retry_unreadable: bool = False,
    ) -> NDArray[np.bool_]:
        """Which rows are still to compute; no values are read.

        Args:
            fingerprints: uint64 (n,), current fingerprint of each store row.
            present: bool (n,), rows that the dataset has now.
            poolings: Poolings that are wanted; all of the key for None.
            retry_unreadable: Whether unreadable rows are tried again; otherwise only when their fingerprint changed.

        Returns:
            bool (n,): present rows that are missing in a wanted pooling, or whose image changed.
        """
        wanted = list(self.shapes if poolings is None else poolings)
        if not self.shapes.keys() >= set(wanted):
            return present
        scan = StateScan(self.arrays(), wanted, len(fingerprints))
        pending: NDArray[np.bool_] = present & scan.find_pending(fingerprints, retry_unreadable=retry_unreadable)
        return pending

    def pending_in(
        self, block: int, fingerprints: NDArray[np.uint64], poolings: Iterable[str], *, retry_unreadable: bool = False
    ) -> NDArray[np.bool_]:
        """Which rows of one block are still to compute, as it is in the store now; see `pending`.

        Args:
            block: Number of the block.
            fingerprints: uint64 (r,), current fingerprint of each of its rows.
            poolings: Poolings that are wanted.
            retry_unreadable: Whether unreadable rows are tried again.
        """
        arrays, rows = self.arrays(), len(fingerprints)
        stamp, *states = (
            _first(array.read_block(block), rows)
            for array in (arrays.column("stamp"), *(arrays.state(name) for name in poolings))
        )
        return find_waiting(stamp, states, fingerprints, retry_unreadable)

    def summarise(self) -> None:
        """Note which blocks are complete, so that they need not be looked at again; small features have no summary."""
        self.scan().summarise()

    def scan(self) -> StateScan:
        """The states of all rows that there is room for, in all poolings."""
        arrays = self.arrays()
        return StateScan(arrays, list(self.shapes), min(len(self._load_table()), arrays.column("stamp").rows))

    def count_changed(self, pooling: str | None = None) -> int:
        """How many rows were embedded, in one pooling or in any, from an image that has another fingerprint now."""
        arrays, stored, names = self.arrays(), self._load_table(), self._chosen(pooling)
        now = stored.table.box_fingerprints if self._follows_boxes else stored.fingerprints
        waiting = StateScan(arrays, names, len(stored)).find_pending(now, retry_unreadable=False)
        rows = np.flatnonzero(stored.present & waiting)
        changed = arrays.column("stamp").read_rows(rows) != now[rows]
        return int((changed & np.any([arrays.state(name).read_rows(rows) == DONE for name in names], axis=0)).sum())

    @property
    def _follows_boxes(self) -> bool:
        """Whether the images were cropped by their boxes; see `featurestore.preprocessing.Preprocessing`."""
        return str(self.key.preprocessing.get("crop", "")).startswith("box")

    def origins(self, poolings: Iterable[str], rows: NDArray[np.int64]) -> Origins:
        """What some rows were computed from; none of them is done in a pooling that is not there.

        Args:
            poolings: Poolings that are wanted.
            rows: int64 (k,), ascending store rows; the store may have less.
        """
        arrays, names = self.arrays(), list(poolings)
        done = np.full(len(rows), bool(names) and self.shapes.keys() >= set(names))
        for name in names if done.any() else ():
            done &= arrays.state(name).read_rows(rows) == DONE
        fingerprints, content = np.zeros(len(rows), np.uint64), np.zeros((len(rows), CONTENT_BYTES), np.uint8)
        fingerprints[done] = arrays.column("stamp").read_rows(rows[done])
        content[done] = arrays.column("content").read_rows(rows[done])
        return Origins(done, fingerprints, content)

    def renew(
        self, rows: NDArray[np.int64], fingerprints: NDArray[np.uint64], sample_hashes: NDArray[np.uint64]
    ) -> None:
        """Note new fingerprints of rows whose content is the same; their features stay.

        Args:
            rows: int64 (k,), ascending store rows that are done.
            fingerprints: uint64 (k,), their fingerprints.
            sample_hashes: uint64 (k,), hashes of their sample ids.
        """
        content = self.arrays().column("content")
        for block in np.unique(rows // self.block_rows).tolist():
            own = rows // self.block_rows == block
            places, before = rows[own] % self.block_rows, content.read_block(block)
            state = np.zeros(len(before), dtype=np.uint8)
            marks, hashes = np.zeros((2, len(before)), dtype=np.uint64)
            state[places], marks[places], hashes[places] = DONE, fingerprints[own], sample_hashes[own]
            self.write_block(block, Block({}, state, before, marks, sample_hashes=hashes))

    def write_block(self, block: int, data: Block) -> None:
        """Commit the rows of one block.

        Rows lose their state first and get it back last: wherever this stops, a row that says done is right. Rows
        whose image changed go missing in the poolings that are not written.

        Raises:
            BackboneError: A value is not finite.
            StorageOverflowError: A value is too large for the storage type.
            StorageUnderflowError: Too many values of a sample are too small for it.
            StoreWriteError: The store cannot be written; what was committed before stays valid.
        """
        arrays = self.arrays()
        BlockCommit(arrays, self.shapes, self._load_table(), block, data).write(self.key.dtype)

    def discard_block(self, block: int) -> None:
        """Forget one block, whatever state it is in: all its rows are missing afterwards."""
        arrays = self.arrays()
        if may_be_summarised(arrays.column("stamp").rows, self.block_rows):
            withdraw(self._storage, self.path, block)
        for array in arrays.all(self.shapes):
            array.delete_block(block)

    def open(
        self,
        pooling: str | None = None,
        *,
        rows: NDArray[np.int64] | None = None,
        allow_partial: bool = False,
    ) -> StoredFeatures:
        """Check states and row identity of one pooling, and leave its values in the store until they are asked for.

        Args:
            pooling: Name of the pooling; the one first asked for when None.
            rows: Ascending positions in the dataset, as `FeatureStore.dataset` gives it, int64 (k,); all for None.
            allow_partial: Whether rows that were not computed yet are left out instead of refused.

        Raises:
            MissingFeaturesError: Rows are missing, or the pooling is.
            CorruptStoreError: Something is damaged.
            UsageError: `rows` are not ascending positions in the dataset.
        """
        (pooling,) = self._chosen(pooling or next(iter(self.shapes)))
        arrays, stored = self.arrays(), self._load_table()
        wanted = _store_rows(stored, rows)
        state = arrays.state(pooling).read_rows(wanted)
        if not allow_partial:
            self._check_complete(pooling, state)
        hashes = stored.hashes(wanted)
        self._check_identity(arrays, wanted[state != MISSING], hashes[state != MISSING])
        kept = wanted[state == DONE]
        return StoredFeatures(
            variant=self.variant,
            backbone=self.backbone,
            pooling=pooling,
            key=self.key,
            table=stored.table if len(kept) == len(stored) else stored.take(kept),
            unreadable=_reasons(arrays, stored, wanted[state == UNREADABLE]),
            provenance=self.provenance,
            array=arrays.values(pooling),
            kept=kept,
            belongs=self._judge(arrays, pooling, kept, hashes[state == DONE]),
        )

    def read(
        self,
        pooling: str | None = None,
        *,
        rows: NDArray[np.int64] | None = None,
        allow_partial: bool = False,
    ) -> FeatureSet:
        """Read one pooling, with every check: states, row identity, sizes and checksums of chunks.

        Arguments and errors as in `open`.
        """
        return self.open(pooling, rows=rows, allow_partial=allow_partial).read()

    def counts(self, pooling: str | None = None) -> Counts:
        """Rows of the dataset by state; over all poolings for None, where a row is as far as its last pooling."""
        stored = self._load_table()
        scan = StateScan(self.arrays(), self._chosen(pooling), len(stored))
        failed, absent = scan.count(None if stored.n_present == len(stored) else stored.present)
        return Counts(stored.n_present - failed - absent, failed, absent)

    def unreadable(self, pooling: str | None = None) -> dict[str, str]:
        """Sample id -> reason, for the rows of the dataset marked unreadable in one pooling, or in any."""
        stored = self._load_table()
        rows = StateScan(self.arrays(), self._chosen(pooling), len(stored)).find_unreadable()
        return _reasons(self.arrays(), stored, rows[stored.present[rows]])

    def _judge(
        self, arrays: KeyArrays, pooling: str, kept: NDArray[np.int64], hashes: NDArray[np.uint64]
    ) -> Callable[[NDArray[np.int64], NDArray[Any]], bool] | None:
        """What tells whether stored values belong to their rows; None where no row has a check."""
        array = arrays.check(pooling)
        if array is None and not self.bound:
            return None
        checks = np.zeros(len(kept), np.uint32) if array is None else array.read_rows(kept)

        def belongs(rows: NDArray[np.int64], values: NDArray[Any]) -> bool:
            places = np.searchsorted(kept, rows)
            found = checks[places]
            states = np.full(len(rows), DONE, dtype=np.uint8)
            right = compute_checks(arrays.place(pooling), rows, hashes[places], states, values)
            return bool(((found == right) | (not self.bound and found == UNCHECKED)).all())

        return belongs

    def arrays(self) -> KeyArrays:
        """Its arrays, as they are in the store now."""
        return KeyArrays(self._storage, self.path, self.block_rows)

    def _check_place(self, attributes: Mapping[str, Any]) -> None:
        """Refuse features that were copied here from another key, variant or dataset."""
        right = (
            attributes.get("sha256") == self.key.sha256
            and self.path.endswith(f"/{self.key.short}")
            and (attributes[PLACE] == self.path if self.bound else self.key.backbone == self.backbone)
        )
        if not right:
            raise CorruptStoreError(
                "features under the name of another key or place",
                where=self._storage.where(self.path),
                hint="Move the folder back to where it was made, or delete it and extract again.",
            )

    def _chosen(self, pooling: str | None) -> list[str]:
        if pooling is not None and pooling not in self.shapes:
            raise MissingFeaturesError(
                f"the pooling {pooling!r} is not stored",
                where=self._storage.where(self.path),
                hint=f"Stored: {', '.join(self.shapes)}. To add others, run: {self.extract_command}",
            )
        return list(self.shapes) if pooling is None else [pooling]

    def _check_complete(self, pooling: str, state: NDArray[np.uint8]) -> None:
        missing = int((state == MISSING).sum())
        if missing:
            raise MissingFeaturesError(
                f"{missing} of {len(state)} rows are not extracted",
                where=self._storage.where(f"{self.path}/{pooling}"),
                hint=f"Run: {self.extract_command}",
            )

    def _check_identity(self, arrays: KeyArrays, written: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
        """Every row that was written must carry the hash of the id that the dataset has in that row."""
        strange = written[arrays.column("sample_hash").read_rows(written) != hashes]
        if len(strange):
            raise self._storage.corrupt(
                f"row {strange[0]} and {len(strange) - 1} more belong to other samples than the dataset says", self.path
            )


def _first(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """The first rows; zeros where there are fewer."""
    return np.concatenate([values[:rows], np.zeros(max(0, rows - len(values)), values.dtype)])


def _parse(
    attributes: Mapping[str, Any], storage: Storage, path: str
) -> tuple[FeatureKey, Mapping[str, Any], dict[str, tuple[int, ...]]]:
    """Key, provenance and shapes."""
    try:
        shapes = read_shapes(attributes["poolings"])
        return FeatureKey.from_dict(attributes["key"]), dict(attributes["provenance"]), shapes
    except (KeyError, TypeError, ValueError, StoreError) as error:
        raise storage.corrupt(f"the attributes of these features are damaged: {error!r}", path) from error


def _store_rows(stored: StoredTable, rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """int64: the store rows of these positions in the dataset."""
    if rows is None:
        return np.flatnonzero(stored.present)
    if len(rows) and (rows[0] < 0 or rows[-1] >= stored.n_present or (np.diff(rows) <= 0).any()):
        raise UsageError(
            f"rows must be ascending and lie within 0 ... {stored.n_present - 1}",
            where=stored.name,
            hint="Sort them, each once: numpy.unique(rows).",
        )
    return rows if stored.n_present == len(stored) else np.flatnonzero(stored.present)[rows]


def _reasons(arrays: KeyArrays, stored: StoredTable, unreadable: NDArray[np.int64]) -> dict[str, str]:
    """Sample id -> reason, of these ascending store rows; only blocks that have some are read."""
    reasons = decode_text(arrays.column("reason").read_rows(unreadable))
    return dict(zip(stored.ids(unreadable), reasons, strict=True))
