"""The nearest-centroid probe: what the features say when each class is a single point."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from probes.heads.base import Floats, Probe
from probes.heads.calibration import fit_temperature
from probes.solvers.scaling import standardise


class CentroidProbe(Probe):
    """The class whose mean is nearest, on features that are standardised on the training rows.

    With standardised rows ``z``, class means ``m_c`` and the temperature ``T``::

        p(c | z) = softmax_c(-|z - m_c|^2 / T)

    This is how prototypical networks make distances into probabilities (Snell, Swersky & Zemel 2017, NeurIPS 30,
    equation 2), and for ``T = 2 s^2`` the posterior of classes of equal weight that are spheres of variance ``s^2``.
    The temperature decides no prediction. It has no optimiser: both protocols are the same.

    Args:
        temperature: ``T``, above 0; None for the one with the smallest negative log likelihood when each training row
            is left out of the mean of its class.

    Attributes:
        classes_: Sorted labels.
        mean_: float32 (d,), mean of the training rows.
        coef_: float32 (n_classes, d); the logits are ``(X - mean_) @ coef_.T + intercept_``: what all classes share of
            the distances, ``|z|^2``, is left out, and the standardisation is folded in.
        intercept_: float32 (n_classes,).
        chosen_: ``temperature``.
    """

    fitted: ClassVar[tuple[str, ...]] = ("mean_", "coef_", "intercept_")

    mean_: Floats
    coef_: Floats
    intercept_: Floats

    def __init__(self, temperature: float | None = None) -> None:
        self.temperature = temperature

    def fit(self, X: Any, y: Any) -> Self:
        """Find the class means of features (n, d) with labels (n,).

        Raises:
            ValueError: Bad values or shapes, fewer than two classes, or a temperature that is not above 0.
        """
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature!r}")
        X, columns = self._check_training(X, y)
        rows = standardise(X)
        centroids = np.stack([rows.values[columns == c].mean(axis=0) for c in range(len(self.classes_))])
        temperature = self.temperature or choose_temperature(rows.values, columns, centroids)
        self.mean_ = rows.scaling.mean.astype(np.float32)
        self.coef_ = rows.scaling.pull_back(2 * centroids / temperature).astype(np.float32)
        self.intercept_ = -np.square(centroids).sum(axis=1) / np.float32(temperature)
        self.chosen_ = {"temperature": float(temperature)}
        return self

    def _probabilities(self, X: Floats) -> Floats:
        return np.asarray(softmax((X - self.mean_) @ self.coef_.T + self.intercept_, axis=1))


def choose_temperature(Z: Floats, columns: NDArray[np.intp], centroids: Floats) -> float:
    """The temperature with the smallest negative log likelihood of training rows, each left out of its class mean.

    The only row of a class has no mean to be compared with, and is passed over. Without any other rows, distances are
    divided by the mean of their standard deviations over the classes.

    Args:
        Z: float32 (n, d), standardised rows.
        columns: (n,) Class of each row.
        centroids: float32 (n_classes, d), means of the classes.
    """
    squares = np.square(Z).sum(axis=1, keepdims=True, dtype=np.float64)
    distances = squares - 2.0 * (Z @ centroids.T) + np.square(centroids).sum(axis=1)
    counts = np.bincount(columns)[columns]
    kept = np.flatnonzero(counts > 1)
    # Leaving a row out moves the mean of its n rows away from it: z - m' = (z - m) n / (n - 1).
    distances[kept, columns[kept]] *= (counts[kept] / (counts[kept] - 1)) ** 2
    unit = float(distances.std(axis=1).mean()) or 1.0
    if not len(kept):
        return unit
    return unit * fit_temperature(softmax(-distances[kept] / unit, axis=1), columns[kept])
