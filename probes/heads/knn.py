"""The nearest-neighbour probe: what the features say without any learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from sklearn.preprocessing import normalize

from probes.heads.base import Floats, Probe
from probes.heads.folds import Numbers
from probes.solvers.network import ClassIndex
from probes.solvers.scaling import rescale

Metric = Literal["cosine", "euclidean"]

CELLS = 2**22
"""Distances that are held at a time, so that memory does not grow with the rows to predict."""

FEWEST = 64
"""Rows whose neighbours are looked up together at least: a product of fewer rows waits for memory."""


class KNNProbe(Probe):
    """A vote of the nearest training rows, on features from which the mean of the training rows is subtracted.

    The centring changes the angles of the ``cosine`` metric and nothing for ``euclidean``. Each neighbour has one vote,
    without weights or smoothing: probabilities are multiples of ``1 / k``. Of equal votes the first label wins, of
    equal distances any neighbour.

    It has no optimiser: both protocols are the same.

    Args:
        metric: ``cosine`` or ``euclidean``.
        n_neighbors: ``k``; None to choose it among `candidates`.
        candidates: ``k`` with the best macro-F1 when each training row, or its group, is left out in turn (the smallest
            of equals); those for which there may be too few other rows are passed over.

    Attributes:
        classes_: Sorted labels.
        mean_: float32 (d,), mean of the training rows.
        vectors_: float32 (n, d), centred training rows; of unit length for ``cosine``.
        targets_: (n,) Class index of each training row.
        unit_: Whether rows are brought to unit length.
        k_: ``k``, at most the number of training rows.
        chosen_: ``k``.
    """

    uses_groups: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("mean_", "vectors_", "targets_", "unit_", "k_")

    mean_: Floats
    vectors_: Floats
    targets_: ClassIndex
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

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Store the training rows (n, d) with their labels (n,), and choose ``k``.

        Args:
            X: Features of the training rows.
            y: Labels of the training rows.
            groups: (n,) Group of each training row, whose other rows do not vote for it while ``k`` is chosen; None:
                every row for itself.

        Raises:
            ValueError: Bad values or shapes, fewer than two classes, or an unknown metric.
        """
        if self.metric not in ("cosine", "euclidean"):
            raise ValueError(f"metric must be cosine or euclidean, not {self.metric!r}")
        X, self.targets_ = self._check_training(X, y)
        units = self._check_groups(groups, len(X))
        self.unit_ = self.metric == "cosine"
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.vectors_ = self._place(X)
        self.k_ = min(self.n_neighbors or self._choose_k(units), len(X))
        self.chosen_ = {"k": self.k_}
        return self

    def _probabilities(self, X: Floats) -> Floats:
        k = int(self.k_)
        return self._votes(nearest_rows(self._place(X), self.vectors_, k)) / np.float32(k)

    def _place(self, X: Floats) -> Floats:
        """Centred rows, of unit length if the metric is the cosine: distances then order like angles."""
        centred = X - self.mean_
        return np.asarray(normalize(*rescale(centred))) if self.unit_ else centred

    def _votes(self, neighbours: NDArray[np.intp]) -> Floats:
        """How many neighbours (n, k) each label has, (n, n_classes)."""
        targets = self.targets_[neighbours]
        counts = [(targets == number).sum(axis=1) for number in range(len(self.classes_))]
        return np.stack(counts, axis=1).astype(np.float32)

    def _choose_k(self, groups: Numbers | None) -> int:
        others = len(self.vectors_) - (1 if groups is None else int(np.bincount(groups).max()))
        candidates = sorted(k for k in self.candidates if k <= others)
        if not candidates:
            return 1
        neighbours = nearest_rows(self.vectors_, self.vectors_, candidates[-1], skip_own=True, groups=groups)
        votes = [self._votes(neighbours[:, :k]).argmax(axis=1) for k in candidates]
        return candidates[int(np.argmax([f1_score(self.targets_, vote, average="macro") for vote in votes]))]


def nearest_rows(
    queries: Floats, rows: Floats, k: int, *, skip_own: bool = False, groups: Numbers | None = None
) -> NDArray[np.intp]:
    """The `k` nearest rows of each query by Euclidean distance, (n, k), the nearest first.

    Squared distances are ``|q|^2 + 2 (|r|^2 / 2 - q.r)``: ordering them takes one matrix product.

    Args:
        queries: float32 (n, d); centred, or their mean costs digits.
        rows: float32 (m, d).
        k: At most m, less what is left out.
        skip_own: Whether the row with the number of the query is left out, and with it the others of its group.
        groups: (m,) Group of each row, for `skip_own`; None: every row for itself.
    """
    queries, rows = rescale(queries, rows)
    half_squares = np.einsum("ij,ij->i", rows, rows) / 2
    found = np.empty((len(queries), k), dtype=np.intp)
    size = max(FEWEST, CELLS // len(rows))
    for start in range(0, len(queries), size):
        distances = queries[start : start + size] @ rows.T
        np.subtract(half_squares, distances, out=distances)
        if skip_own and groups is not None:
            distances[groups[start : start + size, None] == groups] = np.inf
        elif skip_own:
            np.fill_diagonal(distances[:, start:], np.inf)
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.take_along_axis(distances, nearest, axis=1).argsort(axis=1)
        found[start : start + size] = np.take_along_axis(nearest, order, axis=1)
    return found
