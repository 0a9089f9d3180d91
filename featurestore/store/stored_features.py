"""StoredFeatures: one pooling that stays in the store, and is read whole or block after block, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featurestore.samples import SampleTable
from featurestore.store.features import FeatureSet
from featurestore.store.key import FeatureKey
from featurestore.store.layout.blocked_array import BlockedArray

Part = TypeVar("Part", slice, NDArray[np.int64])
"""Rows that are read at once."""


@dataclass(frozen=True)
class StoredFeatures:
    """Embeddings of one dataset by one backbone, variant and pooling; made by `FeatureEntry.open`, not by hand.

    States and row identity were checked when it was made; sizes and checksums are checked as values are read.

    Attributes:
        variant: Name of the preprocessing variant.
        backbone: Name of the backbone.
        pooling: Name of the pooling.
        key: Identity of the features.
        table: The n samples whose embedding exists, in the order of the rows.
        unreadable: Sample id -> reason, for the rows left out.
        provenance: Where the features come from.
        array: The values of all store rows.
        kept: int64 (n,), ascending: the store row of each sample of `table`.
        belongs: Whether some store rows and their stored values belong together; None for features that are older than
            row checks.
    """

    variant: str
    backbone: str
    pooling: str
    key: FeatureKey
    table: SampleTable
    unreadable: Mapping[str, str]
    provenance: Mapping[str, Any]
    array: BlockedArray
    kept: NDArray[np.int64]
    belongs: Callable[[NDArray[np.int64], NDArray[Any]], bool] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and features of each: (n, d)."""
        return len(self.kept), self.array.width

    @property
    def block_rows(self) -> int:
        """Rows of a block of the store."""
        return self.array.block_rows

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values in the store: float16 or float32."""
        return self.array.dtype

    def values(self, rows: slice | NDArray[np.int64] = slice(None), dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Values of these rows of `table`, in ascending order, (k, d), as float32 or as `dtype` says.

        Those of dense features are (k, h, w, D).

        Raises:
            CorruptStoreError: A chunk is damaged, absent or lies in the wrong place.
        """
        return self.array.read_rows(self.kept[rows], dtype, required=True, belongs=self.belongs)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Values of these rows of `table` in the order given, float32 (k, d).

        Raises:
            CorruptStoreError: A chunk is damaged, absent or lies in the wrong place.
        """
        ascending, place = np.unique(rows, return_inverse=True)
        found: NDArray[np.float32] = self.values(ascending)[place]
        return found

    def blocks(self, rows: int = 8192, dtype: DTypeLike = np.float32) -> Iterator[tuple[slice, NDArray[Any]]]:
        """All values in the order of `table`; the next block is read while the caller works on this one.

        Args:
            rows: Rows of a block; the last one may have less.
            dtype: See `values`.

        Yields:
            The rows of `table`, and their values (at most `rows`, d).

        Raises:
            CorruptStoreError: A chunk is damaged, absent or lies in the wrong place.
        """
        spans = [slice(start, min(start + rows, len(self.kept))) for start in range(0, len(self.kept), rows)]
        return self._read_ahead(spans, dtype)

    def shuffled_blocks(self, rows: int, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """All values as float32, each time those of some blocks of the store, drawn at random; read ahead as `blocks`.

        Args:
            rows: Rows at most, unless a block of the store has more.
            rng: Draws the blocks.

        Yields:
            Rows of `table`, int64 (k,), ascending; and their values (k, d).

        Raises:
            CorruptStoreError: A chunk is damaged, absent or lies in the wrong place.
        """
        size = self.block_rows
        of_block = np.split(np.arange(len(self.kept)), np.flatnonzero(np.diff(self.kept // size)) + 1)
        order, together = rng.permutation(len(of_block)), max(1, rows // size)
        drawn = [order[start : start + together] for start in range(0, len(order), together)]
        return self._read_ahead([np.concatenate([of_block[block] for block in np.sort(some)]) for some in drawn])

    def _read_ahead(self, parts: Sequence[Part], dtype: DTypeLike = np.float32) -> Iterator[tuple[Part, NDArray[Any]]]:
        """Some rows after the other, with their values; the next are read while the caller works on these."""
        with ThreadPoolExecutor(1) as reader:
            reads = (reader.submit(self.values, part, dtype) for part in parts)
            ahead = list(islice(reads, 1))
            for part in parts:
                values = ahead.pop().result()
                ahead.extend(islice(reads, 1))
                yield part, values

    def read(self) -> FeatureSet:
        """All values in memory, as float32.

        Raises:
            CorruptStoreError: A chunk is damaged, absent or lies in the wrong place.
        """
        return FeatureSet(
            variant=self.variant,
            backbone=self.backbone,
            pooling=self.pooling,
            key=self.key,
            values=self.values(),
            table=self.table,
            unreadable=self.unreadable,
            provenance=self.provenance,
        )
