"""FeatureSet: one feature matrix with the ids, labels and identity that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError
from featurestore.samples import SampleTable
from featurestore.store.key import FeatureKey


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
    values: NDArray[np.float32]
    table: SampleTable
    unreadable: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.values) != len(self.table):
            raise CorruptStoreError(
                f"{len(self.values)} feature rows for {len(self.table)} samples",
                where=self.table.name,
                hint="Run: skyprobe verify.",
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and features of each: (n, d)."""
        return len(self.values), prod(self.values.shape[1:])
