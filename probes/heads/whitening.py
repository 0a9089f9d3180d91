"""Whitening of features: a transformer of scikit-learn, and what heads put in front of their first layer."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from probes.solvers.factorisation import Axes, Factorisation, factorise

Shrinkage = float | Literal["ledoit_wolf"]
Kind = Literal["pca", "zca"]


class Whitening(TransformerMixin, BaseEstimator):
    """Whitening by the shrunk correlation matrix of the training rows.

    With the correlation matrix ``R = V diag(l) V'`` of standardised rows ``(x - mean) / std``, its shrunk eigenvalues
    ``s = (1 - a) l + a mean(l)`` and the first directions ``V_k``::

        z = diag(s_k)^(-1/2) V_k' diag(1 / std) (x - mean)          # pca
        z = V_k diag(s_k)^(-1/2) V_k' diag(1 / std) (x - mean)      # zca

    These are PCA-cor and ZCA-cor of Kessy, Lewin & Strimmer (2018, The American Statistician 72, 309), with the
    shrinkage ``a`` of Ledoit & Wolf (2004, Journal of Multivariate Analysis 88, 365). At ``a = 0`` the covariance of
    the training rows becomes the identity on these directions. The two kinds differ by a rotation, which a linear
    layer with an L2 penalty does not feel.

    Directions in which the training rows do not vary are dropped, so that at most ``n - 1`` are left.

    Args:
        kind: ``pca`` or ``zca``.
        shrinkage: ``a`` in [0, 1], or ``ledoit_wolf`` to estimate it from the rows.
        rank: Most directions to keep, the ones of largest variance; None for all.

    Attributes:
        mean_: float64 (d,).
        components_: float64 (k, d) for ``pca``, (d, d) for ``zca``; ``z = (x - mean_) @ components_.T``.
        shrinkage_: ``a``.
        rank_: Number of directions kept.
    """

    mean_: NDArray[np.float64]
    components_: NDArray[np.float64]
    shrinkage_: float
    rank_: int

    def __init__(self, kind: Kind = "pca", shrinkage: Shrinkage = "ledoit_wolf", rank: int | None = None) -> None:
        self.kind = kind
        self.shrinkage = shrinkage
        self.rank = rank

    def fit(self, X: Any, y: Any = None, factorisation: Factorisation | None = None) -> Self:  # noqa: ARG002
        """Fit on rows (n, d); `y` is not looked at.

        Args:
            X: Rows.
            y: Ignored.
            factorisation: Of exactly these rows, if it is known.

        Raises:
            ValueError: Bad values or shapes, one row only, constant features, or a parameter out of its range.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        self._check_parameters()
        found = factorisation or factorise(X)
        eigenvalues = found.eigenvalues
        if not len(eigenvalues):
            raise ValueError("every feature is constant, and a constant cannot be whitened")
        self.shrinkage_ = found.shrinkage if self.shrinkage == "ledoit_wolf" else self.shrinkage
        self.rank_ = min(len(eigenvalues), self.rank or len(eigenvalues))
        first, directions = eigenvalues[: self.rank_], found.directions[: self.rank_]
        shrunk = (1 - self.shrinkage_) * first + self.shrinkage_ * eigenvalues.sum() / X.shape[1]
        components = directions / np.sqrt(shrunk)[:, None] / found.scaling.scale
        self.mean_ = found.scaling.mean
        self.components_ = directions.T @ components if self.kind == "zca" else components
        return self

    def transform(self, X: Any) -> NDArray[np.floating]:
        """Whitened rows, (n, k) or (n, d), in the precision of `X`."""
        check_is_fitted(self, "components_")
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return np.asarray((X - self.mean_.astype(X.dtype)) @ self.components_.T.astype(X.dtype))

    @property
    def axes(self) -> Axes:
        """The whitening as coordinates of centred rows."""
        return Axes(self.mean_, self.components_)

    def _check_parameters(self) -> None:
        if self.kind not in ("pca", "zca"):
            raise ValueError(f"kind must be pca or zca, not {self.kind!r}")
        if self.shrinkage != "ledoit_wolf" and not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage must be ledoit_wolf or lie between 0 and 1, not {self.shrinkage!r}")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank must be 1 or more, not {self.rank}")
