"""The nearest-centroid probe: what the features say when each class is a single point."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import softmax

from probes.heads.base import Floats, Probe
from probes.heads.calibration import fit_temperature
from probes.heads.folds import Numbers
from probes.solvers.network import ClassIndex
from probes.solvers.scaling import Doubles, standardise


class CentroidProbe(Probe):
    """The class whose mean is nearest, on features that are standardised on the training rows.

    With standardised rows ``z``, class means ``m_c`` and the temperature ``T``::

        p(c | z) = softmax_c(-|z - m_c|^2 / T)

    This is how prototypical networks make distances into probabilities (Snell, Swersky & Zemel 2017, NeurIPS 30,
    equation 2), and for ``T = 2 s^2`` the posterior of classes of equal weight that are spheres of variance ``s^2``.
    The temperature decides no prediction. It has no optimiser: both protocols are the same.

    Args:
        temperature: ``T``, above 0; None for the one with the smallest negative log likelihood when each training row,
            or its group, is left out of the class means.

    Attributes:
        classes_: Sorted labels.
        mean_: float32 (d,), mean of the training rows.
        coef_: float32 (n_classes, d); the logits are ``(X - mean_) @ coef_.T + intercept_``: what all classes share of
            the distances, ``|z|^2``, is left out, and the standardisation is folded in.
        intercept_: float32 (n_classes,).
        chosen_: ``temperature``.
    """

    uses_groups: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("mean_", "coef_", "intercept_")

    mean_: Floats
    coef_: Floats
    intercept_: Floats

    def __init__(self, temperature: float | None = None) -> None:
        self.temperature = temperature

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Find the class means of features (n, d) with labels (n,).

        Args:
            X: Features of the training rows.
            y: Labels of the training rows.
            groups: (n,) Group of each training row, for the temperature; None: every row for itself.

        Raises:
            ValueError: Bad values or shapes, fewer than two classes, or a temperature that is not above 0.
        """
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature!r}")
        X, targets = self._check_training(X, y)
        units = self._check_groups(groups, len(X))
        rows = standardise(X)
        centroids = np.stack([rows.values[targets == c].mean(axis=0) for c in range(len(self.classes_))])
        temperature = self.temperature or choose_temperature(rows.values, targets, units)
        self.mean_ = rows.scaling.mean.astype(np.float32)
        self.coef_ = rows.scaling.to_input_space(2 * centroids / temperature).astype(np.float32)
        self.intercept_ = -np.square(centroids).sum(axis=1) / np.float32(temperature)
        self.chosen_ = {"temperature": float(temperature)}
        return self

    def _probabilities(self, X: Floats) -> Floats:
        return np.asarray(softmax((X - self.mean_) @ self.coef_.T + self.intercept_, axis=1))


def choose_temperature(Z: Floats, targets: ClassIndex, groups: Numbers | None = None) -> float:
    """The temperature with the smallest negative log likelihood of training rows, each left out of the class means.

    A row whose class has no other row, or no other group, has no mean to be compared with, and is passed over. Without
    any other rows, distances are divided by the mean of their standard deviations over the classes.

    Args:
        Z: float32 (n, d), standardised rows.
        targets: (n,) Class index of each row.
        groups: (n,) Number of the group of each row, which is left out with it; None: every row for itself.
    """
    distances = _measure(Z, targets, np.arange(len(Z)) if groups is None else groups)
    compared = np.isfinite(distances).all(axis=1)
    if not compared.any():
        n_classes = int(targets.max()) + 1
        centroids = np.stack([Z[targets == c].mean(axis=0) for c in range(n_classes)])
        squares = np.square(Z[:, None].astype(np.float64) - centroids).sum(axis=2)
        return float(squares.std(axis=1).mean()) or 1.0
    unit = float(distances[compared].std(axis=1).mean()) or 1.0
    return unit * fit_temperature(softmax(-distances[compared] / unit, axis=1), targets[compared])


def _measure(Z: Floats, targets: ClassIndex, groups: Numbers) -> Doubles:
    """Squared distance of each row to the mean of each class without its group, (n, n_classes); NaN without others."""
    distances = np.empty((len(Z), int(targets.max()) + 1))
    for number in range(distances.shape[1]):
        members = np.flatnonzero(targets == number)
        members = members[np.argsort(groups[members], kind="stable")]
        names, starts, counts = np.unique(groups[members], return_index=True, return_counts=True)
        total = Z[members].sum(axis=0, dtype=np.float64)
        distances[:, number] = np.square(Z - (total / len(members)).astype(np.float32)).sum(axis=1)
        with np.errstate(invalid="ignore"):  # a class of one group has no mean without it
            others = (total - np.add.reduceat(Z[members], starts, dtype=np.float64)) / (len(members) - counts)[:, None]
        place = np.minimum(np.searchsorted(names, groups), len(names) - 1)
        inside = np.flatnonzero(names[place] == groups)
        distances[inside, number] = np.square(Z[inside] - others[place[inside]].astype(np.float32)).sum(axis=1)
    return distances
