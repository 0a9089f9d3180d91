"""Images that are far from all others in feature space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.store.features import FeatureMatrix
from probes.diagnostics.neighbours import Doubles, row_distances
from probes.diagnostics.sampling import FeatureSample, read_blocks
from probes.heads.knn import nearest_rows
from probes.sweep.splits import Rows

NEIGHBOURS = 10
"""The neighbour to which the distance counts: a handful of odd images that are alike still stand apart."""


class Outliers(NamedTuple):
    """The rows that lie farthest out, the farthest first.

    Attributes:
        rows: int64 (k,).
        remoteness: float64 (k,), the distance over the median of all rows.
    """

    rows: Rows
    remoteness: NDArray[np.float64]


def find_outliers(features: FeatureMatrix, sample: FeatureSample, most: int) -> Outliers:
    """Rows by their distance to the 10th nearest row of a sample (Ramaswamy, Rastogi & Shim 2000, SIGMOD 29, 427).

    Every row is measured, against the sample alone: memory and time grow no faster than the rows.

    Returns:
        At most `most` rows; none where half of the rows or more lie at a distance of 0.
    """
    distances = _distances(features, sample)
    median = float(np.median(distances)) if len(distances) else 0.0
    if median == 0:
        return Outliers(np.zeros(0, np.int64), np.zeros(0))
    rows = np.argsort(-distances, kind="stable")[:most].astype(np.int64)
    return Outliers(rows, distances[rows] / median)


def _distances(features: FeatureMatrix, sample: FeatureSample) -> Doubles:
    """Distance of each row to its k-th neighbour in the sample, itself left out, float64 (n,)."""
    k = min(NEIGHBOURS, len(sample.rows) - 1)
    found = np.zeros(features.shape[0])
    if k < 1:
        return found
    sampled = np.full(len(found), -1)
    sampled[sample.rows] = np.arange(len(sample.rows))
    for span, values in read_blocks(features):
        centred = values - sample.mean
        neighbours = nearest_rows(centred, sample.values, k + 1)
        own = neighbours == sampled[span, None]
        # A row that is its own neighbour counts one more of them; equal rows may have pushed it off the list.
        last = np.where(own.any(axis=1), neighbours[:, k], neighbours[:, k - 1])
        found[span] = row_distances(centred, sample.values[last])
    return found
