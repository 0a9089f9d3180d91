"""Intrinsic dimension: how many coordinates the features would need near each image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probes.diagnostics.neighbours import distinct_rows, nearest_distances
from probes.diagnostics.sampling import Floats

DISCARDED = 0.1
"""Share of the largest ratios that TwoNN leaves out, as Facco et al. advise."""

FEWEST_NEIGHBOURS, MOST_NEIGHBOURS = 10, 20
"""Neighbours over which the likelihood estimate is averaged, those of Levina & Bickel."""

Doubles = NDArray[np.float64]


def intrinsic_dimensions(values: Floats) -> dict[str, float]:
    """Both estimates for rows (n, d), by name; NaN where there are too few distinct rows.

    Equal rows count once: a distance of 0 has no ratio to another.
    """
    rows = values[distinct_rows(values)[0]]
    distances = nearest_distances(rows, min(MOST_NEIGHBOURS, len(rows) - 1))
    return {"TwoNN": two_nn(distances), "likelihood": levina_bickel(distances)}


def two_nn(distances: Doubles) -> float:
    """Dimension from the distances to the two nearest neighbours.

    The ratio ``m = r2 / r1`` of a row follows a Pareto law whose exponent is the dimension, so that ``-log(1 - F(m))``
    against ``log m`` is a line through the origin with the dimension as its slope (Facco, d'Errico, Rodriguez & Laio
    2017, Scientific Reports 7, 12140). The largest tenth of the ratios is left out.

    Args:
        distances: (n, k), distances to the nearest neighbours, ascending, none 0.

    Returns:
        The slope; NaN for fewer than 3 rows.
    """
    n, k = distances.shape
    if k < 2:
        return float("nan")
    ratios = np.sort(np.log(distances[:, 1] / distances[:, 0]))
    kept = max(1, int(n * (1 - DISCARDED)))
    x, y = ratios[:kept], -np.log1p(-np.arange(1, kept + 1) / n)
    return float(x @ y / (x @ x)) if x.any() else float("nan")


def levina_bickel(distances: Doubles) -> float:
    """Dimension of highest likelihood, averaged over 10 to 20 neighbours.

    For k neighbours the inverse dimension at a row is the mean of ``log(r_k / r_j)`` over j < k (Levina & Bickel 2004,
    NIPS 17); inverse dimensions are averaged over the rows, which removes the bias of averaging dimensions (MacKay &
    Ghahramani 2005, comment on that paper).

    Args:
        distances: (n, k), distances to the nearest neighbours, ascending, none 0.

    Returns:
        The dimension; NaN for fewer neighbours than 10.
    """
    if distances.shape[1] < FEWEST_NEIGHBOURS:
        return float("nan")
    logs = np.log(distances)
    neighbours = range(FEWEST_NEIGHBOURS, distances.shape[1] + 1)
    inverse = [(logs[:, k - 1 : k] - logs[:, : k - 1]).mean() for k in neighbours]
    return float(np.mean(1 / np.array(inverse))) if all(inverse) else float("nan")
