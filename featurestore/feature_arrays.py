"""FeatureArrays: the embeddings of one dataset under one key, written block by block and trusted row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.commands import extract_command
from featurestore.errors import CorruptStoreError, MissingFeaturesError
from featurestore.featureset import FeatureSet
from featurestore.key import FeatureKey
from featurestore.layout.block_commit import Block, BlockCommit
from featurestore.layout.key_arrays import DONE, MISSING, UNREADABLE, KeyArrays
from featurestore.layout.storage import REPAIR, Storage
from featurestore.layout.table_arrays import StoredTable
from featurestore.layout.text import decode_text

__all__ = ["DONE", "MISSING", "UNREADABLE", "Block", "Counts", "FeatureArrays"]


class Counts(NamedTuple):
    """Rows by state."""

    done: int
    unreadable: int
    missing: int


class FeatureArrays:
    """One group ``features/DATASET/VARIANT/BACKBONE/KEY12`` of a store; made by `FeatureStore`, not by hand.

    Attributes:
        path: Path of the group below the root of the store.
        dataset: Name of the dataset.
        variant: Name of the preprocessing variant.
        backbone: Name of the backbone.
        key: Identity of the features.
        provenance: Where they come from.
        widths: Pooling -> number of features, in the order in which the poolings were first asked for.
    """

    def __init__(
        self,
        storage: Storage,
        path: str,
        names: tuple[str, str, str],
        attributes: Mapping[str, Any],
        load_table: Callable[[], StoredTable],
    ) -> None:
        self.path = path
        self.dataset, self.variant, self.backbone = names
        self.key = FeatureKey.from_dict(attributes["key"])
        self.provenance: Mapping[str, Any] = attributes["provenance"]
        self.widths: Mapping[str, int] = dict(attributes["poolings"])
        self._storage = storage
        self._load_table = load_table

    def __repr__(self) -> str:
        return f"FeatureArrays({self.path!r}, {', '.join(self.widths)})"

    @property
    def requests(self) -> list[str]:
        """Digests of the requests that led here, as they stand in the store now."""
        return list((self._storage.attributes(self.path) or {}).get("requests", []))

    def add_request(self, digest: str) -> None:
        """Note a request, so that the next equal one finds these features without loading a model."""
        requests = self.requests
        if digest not in requests:
            self._storage.set_attributes(self.path, {"requests": [*requests, digest]})

    @property
    def nbytes(self) -> int:
        """Bytes of the values of all poolings."""
        arrays = KeyArrays(self._storage, self.path)
        itemsize = np.dtype(self.key.dtype).itemsize
        return sum(arrays.values(name).rows * width * itemsize for name, width in self.widths.items())

    @property
    def extract_command(self) -> str:
        """The command that completes these features."""
        source = self._load_table().table.source or self.dataset
        options = {**self.key.to_dict(), "weights": self.provenance.get("weights")}
        return extract_command(source, self.backbone, self.variant, self._storage.path, options)

    def pending(
        self,
        stamps: NDArray[np.uint64],
        present: NDArray[np.bool_],
        *,
        poolings: Iterable[str] | None = None,
        retry_unreadable: bool = False,
    ) -> NDArray[np.bool_]:
        """Which rows are still to compute; no values are read.

        Args:
            stamps: uint64 (n,), current stamp of each store row.
            present: bool (n,), rows that the dataset has now.
            poolings: Poolings that are wanted; all of the key for None.
            retry_unreadable: Whether unreadable rows are tried again; otherwise only when their stamp changed.

        Returns:
            bool (n,): present rows that are missing in a wanted pooling, or whose image changed.
        """
        arrays, rows = KeyArrays(self._storage, self.path), len(stamps)
        waiting = arrays.column("stamp").read_all(rows) != stamps
        for pooling in self.widths if poolings is None else poolings:
            if pooling not in self.widths:
                return present
            state = arrays.state(pooling).read_all(rows)
            waiting |= (state != DONE) if retry_unreadable else (state == MISSING)
        pending: NDArray[np.bool_] = present & waiting
        return pending

    def write_block(self, block: int, data: Block) -> None:
        """Commit the rows of one block.

        Rows lose their state first and get it back last: wherever this stops, a row that says done is right. Rows
        whose image changed go missing in the poolings that are not written.

        Raises:
            BackboneError: A value is not finite.
            StorageOverflowError: A value is too large for the storage type.
            StoreWriteError: The store cannot be written; what was committed before stays valid.
        """
        arrays = KeyArrays(self._storage, self.path)
        BlockCommit(arrays, self.widths, self._load_table(), block, data).write(self.key.dtype)

    def discard_block(self, block: int) -> None:
        """Forget one block, whatever state it is in: all its rows are missing afterwards."""
        for array in KeyArrays(self._storage, self.path).all(self.widths):
            array.delete_block(block)

    def read(self, pooling: str | None = None, *, allow_partial: bool = False) -> FeatureSet:
        """Read one pooling, with every check: states, row identity, sizes and checksums of chunks.

        Args:
            pooling: Name of the pooling; the one first asked for when None.
            allow_partial: Whether rows that were not computed yet are left out instead of refused.

        Raises:
            MissingFeaturesError: Rows are missing, or the pooling is.
            CorruptStoreError: Something is damaged.
        """
        (pooling,) = self._chosen(pooling or next(iter(self.widths)))
        arrays, stored = KeyArrays(self._storage, self.path), self._load_table()
        state = arrays.state(pooling).read_all(len(stored))
        if not allow_partial:
            self._check_complete(pooling, stored.present, state)
        self._check_identity(arrays, stored, state)
        kept = stored.present & (state == DONE)
        return FeatureSet(
            variant=self.variant,
            backbone=self.backbone,
            pooling=pooling,
            key=self.key,
            values=self._read_values(arrays, pooling, kept),
            table=stored.table if kept.all() else stored.table.take(np.flatnonzero(kept)),
            unreadable=_reasons(arrays, stored, state == UNREADABLE),
            provenance=self.provenance,
        )

    def counts(self, pooling: str | None = None) -> Counts:
        """Rows of the dataset by state; over all poolings for None, where a row is as far as its last pooling."""
        missing, unreadable, present = self._marks(pooling)
        failed = int((unreadable & ~missing & present).sum())
        absent = int((missing & present).sum())
        return Counts(int(present.sum()) - failed - absent, failed, absent)

    def unreadable(self, pooling: str | None = None) -> dict[str, str]:
        """Sample id -> reason, for the rows of the dataset marked unreadable in one pooling, or in any."""
        _, unreadable, _ = self._marks(pooling)
        return _reasons(KeyArrays(self._storage, self.path), self._load_table(), unreadable)

    def _marks(self, pooling: str | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Three bool (n,): missing in any pooling, unreadable in any, present."""
        arrays, stored = KeyArrays(self._storage, self.path), self._load_table()
        states = [arrays.state(name).read_all(len(stored)) for name in self._chosen(pooling)]
        missing = np.any([state == MISSING for state in states], axis=0)
        unreadable = np.any([state == UNREADABLE for state in states], axis=0)
        return missing, unreadable, stored.present

    def _chosen(self, pooling: str | None) -> list[str]:
        if pooling is not None and pooling not in self.widths:
            raise MissingFeaturesError(
                f"the pooling {pooling!r} is not stored",
                where=self._storage.where(self.path),
                hint=f"Stored: {', '.join(self.widths)}. To add others, run: {self.extract_command}",
            )
        return list(self.widths) if pooling is None else [pooling]

    def _check_complete(self, pooling: str, present: NDArray[np.bool_], state: NDArray[np.uint8]) -> None:
        missing = int((present & (state == MISSING)).sum())
        if missing:
            raise MissingFeaturesError(
                f"{missing} of {int(present.sum())} rows are not extracted",
                where=self._storage.where(f"{self.path}/{pooling}"),
                hint=f"Run: {self.extract_command}",
            )

    def _check_identity(self, arrays: KeyArrays, stored: StoredTable, state: NDArray[np.uint8]) -> None:
        """Every row that was written must carry the id that the dataset has in that row."""
        hashes = arrays.column("sample_hash").read_all(len(stored))
        strange = np.flatnonzero((state != MISSING) & (hashes != stored.id_hashes))
        if len(strange):
            raise CorruptStoreError(
                f"row {strange[0]} and {len(strange) - 1} more belong to other samples than the dataset says",
                where=self._storage.where(self.path),
                hint=REPAIR,
            )

    def _read_values(self, arrays: KeyArrays, pooling: str, kept: NDArray[np.bool_]) -> NDArray[np.float32]:
        """float32 (kept.sum(), d): each chunk is decoded once, straight into its place."""
        array = arrays.values(pooling)
        size, filled = array.block_rows, 0
        out = np.empty((int(kept.sum()), self.widths[pooling]), dtype=np.float32)
        for block, rows in array.read_blocks(np.unique(np.flatnonzero(kept) // size).tolist()):
            mask = kept[block * size : (block + 1) * size]
            chosen = _take(rows, mask)
            if len(chosen) < mask.sum() or np.isnan(chosen[:, 0]).any():
                raise CorruptStoreError(
                    f"block {block} has no values for rows that say done",
                    where=self._storage.where(array.path),
                    hint=REPAIR,
                )
            out[filled : filled + len(chosen)] = chosen
            filled += len(chosen)
        return out


def _take(rows: NDArray[Any] | None, mask: NDArray[np.bool_]) -> NDArray[Any]:
    """The rows that the mask wants and the block has; without a copy where that is all of them."""
    if rows is None:
        return np.empty((0, 1))
    return rows if len(rows) == len(mask) and mask.all() else rows[: len(mask)][mask[: len(rows)]]


def _reasons(arrays: KeyArrays, stored: StoredTable, unreadable: NDArray[np.bool_]) -> dict[str, str]:
    """Sample id -> reason, of the samples the dataset has; only blocks with such rows are read."""
    column, rows = arrays.column("reason"), np.flatnonzero(unreadable & stored.present)
    blocks = rows // column.block_rows
    reasons: dict[str, str] = {}
    for block in np.unique(blocks).tolist():
        text = decode_text(column.read_block(block))
        own = rows[blocks == block].tolist()
        reasons |= {stored.table.sample_ids[row]: text[row - block * column.block_rows] for row in own}
    return reasons
