"""FeatureSet: one feature matrix with the ids, labels and identity that belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError
from featurestore.samples import SampleTable
from featurestore.store.key import FeatureKey

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class FeatureMatrix(Protocol):
    """One feature matrix, in memory (`FeatureSet`) or in its store (`StoredFeatures`): its readers need not know."""

    @property
    def variant(self) -> str:
        """Name of the preprocessing variant."""
        ...

    @property
    def backbone(self) -> str:
        """Name of the backbone."""
        ...

    @property
    def pooling(self) -> str:
        """Name of the pooling."""
        ...

    @property
    def key(self) -> FeatureKey:
        """Identity of the features."""
        ...

    @property
    def table(self) -> SampleTable:
        """The n samples whose embedding exists, in the order of the rows."""
        ...

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Sample id -> reason, for the rows left out."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the features come from."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and features of each: (n, d)."""
        ...

    @property
    def block_rows(self) -> int | None:
        """Rows that the store reads at once; None where all rows are in memory."""
        ...

    def take(self, rows: Rows) -> Floats:
        """Values of these rows in the order given, float32 (k, d)."""
        ...

    def blocks(self, rows: int = ...) -> Iterator[tuple[slice, Floats]]:
        """All values in order, float32: at most so many rows at a time, and which they are."""
        ...

    def shuffled_blocks(self, rows: int, rng: np.random.Generator) -> Iterator[tuple[Rows, Floats]]:
        """All values, float32, in random parts of about so many rows: int64 (k,), ascending, and their values."""
        ...

    def read(self) -> FeatureSet:
        """All values in memory."""
        ...


@dataclass(frozen=True)
class FeatureSet:
    """Embeddings of one dataset by one backbone, variant and pooling: all that a probe needs.

    Attributes:
        variant: Name of the preprocessing variant.
        backbone: Name of the backbone.
        pooling: Name of the pooling.
        key: Identity of the features.
        values: float32 (n, d), or (n, h, w, D) of dense features; only rows whose embedding exists.
        table: The samples of exactly these rows, in the same order.
        unreadable: sample id -> reason, for the rows left out.
        provenance: Where the features come from: weights, licence, library versions.
    """

    variant: str
    backbone: str
    pooling: str
    key: FeatureKey
    values: Floats
    table: SampleTable
    unreadable: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.values) != len(self.table):
            raise CorruptStoreError(
                f"{len(self.values)} feature rows for {len(self.table)} samples",
                where=self.table.name,
                hint="Give one row for each sample, in the same order.",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and features of each: (n, d)."""
        return len(self.values), prod(self.values.shape[1:])

    @property
    def block_rows(self) -> None:
        """All rows are in memory."""
        return

    def take(self, rows: Rows) -> Floats:
        """See `FeatureMatrix.take`."""
        return self.values[rows]

    def blocks(self, rows: int = 8192) -> Iterator[tuple[slice, Floats]]:
        """See `FeatureMatrix.blocks`; views, not copies."""
        for start in range(0, len(self.values), rows):
            span = slice(start, min(start + rows, len(self.values)))
            yield span, self.values[span]

    def shuffled_blocks(self, rows: int, rng: np.random.Generator) -> Iterator[tuple[Rows, Floats]]:
        """See `FeatureMatrix.shuffled_blocks`; every row is drawn for itself."""
        order = rng.permutation(len(self.values)).astype(np.int64)
        for start in range(0, len(order), rows):
            part = np.sort(order[start : start + rows])
            yield part, self.values[part]

    def read(self) -> FeatureSet:
        """These features."""
        return self
