"""How far apart the classes lie in the features, before any probe."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probes.diagnostics.sampling import Floats
from probes.heads.knn import nearest_rows

NEIGHBOURS = 10
"""Neighbours among which the purity is counted."""

Labels = NDArray[np.int64]


def separability(values: Floats, labels: Labels) -> dict[str, float]:
    """All measures for labelled rows (n, d), by name.

    Classes of a single row have neither a spread nor a neighbour, and are left out. Everything is NaN where fewer than
    two classes remain, or all rows are equal.
    """
    names, counts = np.unique(labels, return_counts=True)
    kept = np.isin(labels, names[counts > 1])
    values, labels = values[kept], labels[kept]
    n_classes = int((counts > 1).sum())
    if n_classes < 2 or (values == values[0]).all():
        return dict.fromkeys(("Fisher ratio", "silhouette", "purity", "purity by chance"), float("nan"))
    return {
        "Fisher ratio": fisher_ratio(values, labels),
        "silhouette": silhouette(values, labels),
        "purity": purity(values, labels),
        "purity by chance": float(np.mean((counts[counts > 1] - 1) / (len(labels) - 1))),
    }


def fisher_ratio(values: Floats, labels: Labels) -> float:
    """Variance between classes over variance within: ``tr S_b / tr S_w`` (Fukunaga 1990, Section 10.2).

    Times ``(n - classes) / (classes - 1)`` it is the index of Calinski & Harabasz (1974).

    Returns:
        At least 0; infinite where every class is a point.
    """
    X = values.astype(np.float64)
    means = np.stack([X[labels == label].mean(axis=0) for label in np.unique(labels)])
    own = means[np.searchsorted(np.unique(labels), labels)]
    between, within = ((own - X.mean(axis=0)) ** 2).sum(), ((X - own) ** 2).sum()
    return float(between / within) if within else float("inf")


def silhouette(values: Floats, labels: Labels) -> float:
    """Mean of ``(b - a) / max(a, b)`` over the rows: a and b are the mean distances to the own and the nearest class.

    Rousseeuw 1987 (J. Comput. Appl. Math. 20, 53); Euclidean distances. Between -1 and 1.
    """
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(values, labels))


def purity(values: Floats, labels: Labels) -> float:
    """Share of the 10 nearest other rows that are of the row's own class, its mean over classes; between 0 and 1."""
    k = min(NEIGHBOURS, len(values) - 1)
    neighbours = nearest_rows(values, values, k, skip_own=True)
    same = (labels[neighbours] == labels[:, None]).mean(axis=1)
    return float(np.mean([same[labels == label].mean() for label in np.unique(labels)]))
