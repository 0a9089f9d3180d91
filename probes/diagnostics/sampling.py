"""The rows that are diagnosed: all of them block by block, or a sample that every backbone shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.samples import SampleTable
from featurestore.store.features import FeatureMatrix
from probes.projection import check_finite
from probes.sweep.splits import Rows, hash_names

Floats = NDArray[np.float32]

BLOCK_ROWS = 1024
"""Rows that are worked on at a time."""


@dataclass(frozen=True)
class FeatureSample:
    """Some rows of a feature matrix, in an order that depends on sample ids and a seed alone.

    Attributes:
        rows: int64 (m,), rows of the feature matrix.
        sample_ids: Their ids.
        values: float32 (m, d), centred: the mean of these rows is subtracted.
        mean: float32 (d,), that mean.
    """

    rows: Rows
    sample_ids: tuple[str, ...]
    values: Floats
    mean: Floats


def draw_rows(table: SampleTable, most: int, seed: int) -> Rows:
    """At most `most` rows, those of the smallest hashes of seed and sample id, in the order of these hashes.

    Two backbones thus see the same images, and a smaller sample is the start of a larger one.
    """
    # The first name of the diagnostics is part of the hash, so that samples stay the same.
    return np.argsort(hash_names(f"look\0{seed}", table.sample_ids), kind="stable")[:most].astype(np.int64)


def draw_sample(features: FeatureMatrix, most: int, seed: int) -> FeatureSample:
    """At most `most` rows of a feature matrix, read and centred.

    Raises:
        ProbeError: There are none, or some values are not finite.
    """
    rows = draw_rows(features.table, most, seed)
    values = features.take(rows)
    check_finite(values, features.table.name)
    constant = (values == values[0]).all(axis=0)  # whose rounded mean would leave a trace that passes for variance
    mean = np.where(constant, values[0], values.mean(axis=0, dtype=np.float64)).astype(np.float32)
    return FeatureSample(rows, tuple(features.table.sample_ids[row] for row in rows), values - mean, mean)


def read_blocks(features: FeatureMatrix, rows: int = BLOCK_ROWS) -> Iterator[tuple[slice, Floats]]:
    """All rows in order, float32, at most `rows` at a time, with the span of each block.

    Raises:
        ProbeError: Some values are not finite.
    """
    for span, values in features.blocks(rows):
        check_finite(values, features.table.name)
        yield span, values
