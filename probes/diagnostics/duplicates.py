"""Images that are equal or nearly so in feature space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.store.features import FeatureMatrix
from probes.diagnostics.neighbours import digest_rows, distinct_digests, nearest_distances
from probes.diagnostics.sampling import FeatureSample, Floats, read_blocks
from probes.sweep.splits import Rows

CHANCE = 0.05
"""Rows of a set without duplicates that are expected below the threshold."""

MOST_PAIRS = 10_000
"""Pairs that are listed, the closest first; all are counted."""

BLOCK_ROWS = 2048
"""Rows that are compared with as many others at a time: even if all are close, their pairs are held."""

LEARNT = ("train", "valid")
"""Parts that a head learns from: validation rows count as training."""

SLACK = 1e-4
"""Rounding of squared distances by a product in single precision: closer candidates are measured again."""


@dataclass(frozen=True)
class Duplicates:
    """Pairs of rows whose cosine similarity is at least a threshold.

    Equal rows are compared once: `pairs` speaks of kinds of equal rows, each by its first row.

    Attributes:
        threshold: Lowest cosine similarity of a pair.
        kind: int64 (n,), for each row the first row that equals it.
        pairs: Columns ``first`` < ``second`` (rows) and ``similarity``, the closest first; at most 10,000.
        n_pairs: How many such pairs there are.
        crossing: The same columns: for each kind with a test row (``first``) the closest other kind with a row that a
            head learns from (``second``), however many pairs there are.
    """

    threshold: float
    kind: Rows
    pairs: pd.DataFrame
    n_pairs: int
    crossing: pd.DataFrame


def find_duplicates(
    features: FeatureMatrix, sample: FeatureSample, parts: NDArray[np.str_], threshold: float | None = None
) -> Duplicates:
    """Rows of (n, d) features that equal others, and pairs of unequal rows that are close.

    The cosine is that of rows from which the mean of the sample is subtracted: without that, all images of one survey
    look alike. All pairs of rows are compared, block against block; time grows with n^2 d, memory with n.

    Args:
        features: The rows.
        sample: Rows that give the mean and the default threshold.
        parts: Part of each row: ``train``, ``valid``, ``test`` or empty, (n,).
        threshold: Lowest cosine similarity; None: `default_threshold`.
    """
    chosen = default_threshold(sample, features.key.dtype) if threshold is None else threshold
    digests = [digest_rows(values) for _, values in read_blocks(features)]
    firsts, place = distinct_digests(np.concatenate(digests))
    kind = firsts[place]
    tested, learnt = _mark(kind, parts == "test"), _mark(kind, np.isin(parts, LEARNT))
    found, crossing, n_pairs = _no_pairs(), _no_pairs(), 0
    for new in _close_pairs(features, sample.mean, firsts, chosen):
        n_pairs += len(new)
        found = _closest(found, new)[:MOST_PAIRS]
        both = pd.concat([new, new.rename(columns={"first": "second", "second": "first"})])
        across = both[tested[both["first"]] & learnt[both["second"]]]
        crossing = _closest(crossing, across).drop_duplicates("first", ignore_index=True)
    return Duplicates(chosen, kind, found, n_pairs, crossing)


def default_threshold(sample: FeatureSample, dtype: str) -> float:
    """The cosine similarity that nearest neighbours of different images do not reach.

    Where rows are scattered evenly, the distance r to the nearest neighbour follows a Weibull law, ``P(r > x) =
    2^-(x / m)^k`` with median m; the upper quartile q, which duplicates do not move as long as fewer than half of the
    rows have one, gives ``k = ln 2 / ln(q / m)``. The threshold is the distance ``m (0.05 / (n ln 2))^(1/k)`` that
    0.05 of n rows are expected to lie within, but not less than what rounding to the storage type makes of one image.
    With r between rows of unit length the cosine is ``1 - r^2 / 2``.

    Args:
        sample: n centred rows.
        dtype: Storage type, ``float16`` or ``float32``.
    """
    rounding = float(np.finfo(dtype).eps)
    rows = _unit(sample.values)
    distances = nearest_distances(rows, min(1, len(rows) - 1))
    middle, upper = np.quantile(distances, [0.5, 0.75]) if distances.size else (0.0, 0.0)
    if not 0 < middle < upper:
        return _cosine(rounding)
    shape = np.log(2) / np.log(upper / middle)
    return _cosine(max(rounding, float(middle * (CHANCE / (len(rows) * np.log(2))) ** (1 / shape))))


def _mark(kind: Rows, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows are the first of a kind that holds any of some rows, (n,)."""
    marked = np.zeros(len(kind), dtype=bool)
    marked[kind[rows]] = True
    return marked


def _close_pairs(features: FeatureMatrix, mean: Floats, firsts: Rows, threshold: float) -> Iterator[pd.DataFrame]:
    """All close pairs among rows that differ, block by block."""
    for rows, units in _units(features, mean, firsts):
        for others, other_units in _units(features, mean, firsts):
            if others[0] > rows[-1]:
                break
            yield _compare(rows, units, others, other_units, threshold)


def _closest(found: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Both together, the closest first."""
    joined = pd.concat([found, new]) if len(found) else new
    return joined.sort_values(["similarity", "first", "second"], ascending=[False, True, True], ignore_index=True)


def _compare(rows: Rows, units: Floats, others: Rows, other_units: Floats, threshold: float) -> pd.DataFrame:
    """Pairs of a row and an earlier one of another block, or of the same."""
    later, earlier = np.nonzero(units @ other_units.T >= threshold - SLACK)
    before = others[earlier] < rows[later]
    later, earlier = later[before], earlier[before]
    similarity = np.empty(len(later))
    for start in range(0, len(later), len(units)):  # as many at a time as there are rows: all could be pairs
        span = slice(start, start + len(units))
        difference = units[later[span]].astype(np.float64) - other_units[earlier[span]]
        similarity[span] = 1 - np.einsum("ij,ij->i", difference, difference) / 2
    near = similarity >= threshold
    columns = {"first": others[earlier[near]], "second": rows[later[near]], "similarity": similarity[near]}
    return pd.DataFrame(columns)


def _units(features: FeatureMatrix, mean: Floats, wanted: Rows) -> Iterator[tuple[Rows, Floats]]:
    """The wanted rows, centred and of unit length, block by block; rows of length 0 have no angle and are left out."""
    for span, values in read_blocks(features, BLOCK_ROWS):
        rows = wanted[(wanted >= span.start) & (wanted < span.stop)]
        units = _unit(values[rows - span.start] - mean)
        angled = units.any(axis=1)
        if angled.any():
            yield rows[angled], units[angled]


def _unit(values: Floats) -> Floats:
    from sklearn.preprocessing import normalize

    return np.asarray(normalize(values))


def _cosine(distance: float) -> float:
    return 1 - distance**2 / 2


def _no_pairs() -> pd.DataFrame:
    none = np.zeros(0, dtype=np.int64)
    return pd.DataFrame({"first": none, "second": none, "similarity": np.zeros(0)})
