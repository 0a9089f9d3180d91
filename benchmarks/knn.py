"""The nearest-neighbour probe against scikit-learn's classifier, and against the same product with a full sort."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.embeddings import make_features
from benchmarks.row import Row, time_pairs
from probes.heads.knn import KNNProbe

N_TRAIN, N_TEST, D = 8_000, 2_000, 768
K = 10


def measure() -> Iterator[Row]:
    """Fit and predict, at the same k and the same metric."""
    features = make_features(N_TRAIN, N_TEST, D, 4)
    values, labels = features.values, features.table.labels["kind"]
    (X, test), y = np.split(values, [N_TRAIN]), labels[:N_TRAIN]
    ours, plain = KNNProbe("euclidean", K), KNeighborsClassifier(K)

    def predict() -> NDArray[np.int64]:
        return ours.fit(X, y).predict(test)

    library = time_pairs(predict, lambda: plain.fit(X, y).predict(test))
    sort = time_pairs(predict, lambda: _sort_all(X, y, test))
    agreement = np.mean(predict() == plain.predict(test))
    yield Row(
        f"kNN, k = {K}, {N_TRAIN:,} training and {N_TEST:,} test rows of {D} features",
        "s",
        median(library.ours),
        library.speedup,
        1.0,
        peers={"KNeighborsClassifier": median(library.other), "product and full sort": median(sort.other)},
        note=f"{sort.speedup:.1f}x against the full sort; predictions equal to scikit-learn's: {agreement:.2%}",
    )


def _sort_all(X: NDArray[np.float32], y: NDArray[np.int64], test: NDArray[np.float32]) -> NDArray[np.int64]:
    """All distances as one matrix, every row of it sorted."""
    distances = (X**2).sum(axis=1) - 2 * test @ X.T
    neighbours = y[distances.argsort(axis=1)[:, :K]]
    return np.array([np.bincount(row).argmax() for row in neighbours])
