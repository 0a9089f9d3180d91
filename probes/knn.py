"""The nearest-neighbour probe: what the features say without any learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from probes.base import Floats, Probe

Metric = Literal["cosine", "euclidean"]

BLOCK = 4096
"""Rows whose neighbours are looked up at a time, so that memory does not grow with the rows to predict."""


class KNNProbe(Probe):
    """A vote of the nearest training rows, on features from which the mean of the training rows is subtracted.

    The centring changes the angles of the ``cosine`` metric and nothing for ``euclidean``. Each neighbour has one vote,
    without weights or smoothing: probabilities are multiples of ``1 / k``. Of equal votes the first label wins, of
    equal distances any neighbour.

    It has no optimiser: both protocols are the same.

    Args:
        metric: ``cosine`` or ``euclidean``.
        n_neighbors: ``k``; None to choose it among `candidates`.
        candidates: ``k`` with the best macro-F1 when each training row is left out in turn (the smallest of equals);
            those that are not below the number of rows are passed over.

    Attributes:
        classes_: Sorted labels.
        mean_: float32 (d,), mean of the training rows.
        vectors_: float32 (n, d), centred training rows; of unit length for ``cosine``.
        columns_: (n,) Column of the label of each training row.
        unit_: Whether rows are brought to unit length.
        k_: ``k``, at most the number of training rows.
        chosen_: ``k``.
    """

    fitted: ClassVar[tuple[str, ...]] = ("mean_", "vectors_", "columns_", "unit_", "k_")

    mean_: Floats
    vectors_: Floats
    columns_: NDArray[np.intp]
    unit_: bool
    k_: int

    def __init__(
        self,
        metric: Metric = "cosine",
        n_neighbors: int | None = None,
        candidates: Sequence[int] = (1, 3, 5, 10, 20, 50),
    ) -> None:
        self.metric = metric
        self.n_neighbors = n_neighbors
        self.candidates = candidates

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the training rows (n, d) with their labels (n,), and choose ``k``.

        Raises:
            ValueError: Bad values or shapes, fewer than two classes, or an unknown metric.
        """
        if self.metric not in ("cosine", "euclidean"):
            raise ValueError(f"metric must be cosine or euclidean, not {self.metric!r}")
        X, self.columns_ = self._check_training(X, y)
        self.unit_ = self.metric == "cosine"
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.vectors_ = self._place(X)
        self.k_ = min(self.n_neighbors or self._choose_k(), len(X))
        self.chosen_ = {"k": self.k_}
        return self

    def _probabilities(self, X: Floats) -> Floats:
        k = int(self.k_)
        index = self._index(k)
        blocks = (self._place(X[start : start + BLOCK]) for start in range(0, len(X), BLOCK))
        neighbours = np.concatenate([index.kneighbors(block, return_distance=False) for block in blocks])
        return self._votes(neighbours) / np.float32(k)

    def _place(self, X: Floats) -> Floats:
        """Centred rows, of unit length if the metric is the cosine: distances then order like angles."""
        centred = X - self.mean_
        return np.asarray(normalize(centred)) if self.unit_ else centred

    def _index(self, k: int) -> Any:
        return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(self.vectors_)

    def _votes(self, neighbours: NDArray[np.intp]) -> Floats:
        """How many neighbours (n, k) each label has, (n, n_classes)."""
        columns = self.columns_[neighbours]
        counts = [(columns == column).sum(axis=1) for column in range(len(self.classes_))]
        return np.stack(counts, axis=1).astype(np.float32)

    def _choose_k(self) -> int:
        candidates = sorted(k for k in self.candidates if k < len(self.vectors_)) or [1]
        # Asked without rows, scikit-learn leaves each row out of its own neighbours.
        neighbours = self._index(candidates[-1]).kneighbors(return_distance=False)
        votes = [self._votes(neighbours[:, :k]).argmax(axis=1) for k in candidates]
        return candidates[int(np.argmax([f1_score(self.columns_, vote, average="macro") for vote in votes]))]
