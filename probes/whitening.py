"""Whitening of features, and the linear probe on whitened features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from probes.base import ClassWeight
from probes.linear import STRENGTHS, LinearProbe

Shrinkage = float | Literal["ledoit_wolf"]
Kind = Literal["pca", "zca"]


class Whitening(TransformerMixin, BaseEstimator):
    """Whitening by the shrunk correlation matrix of the training rows.

    With the correlation matrix ``R = V diag(l) V'`` of standardised rows ``(x - mean) / std``, its shrunk eigenvalues
    ``s = (1 - a) l + a mean(l)`` and the kept directions ``V_k``::

        z = diag(s_k)^(-1/2) V_k' diag(1 / std) (x - mean)          # pca
        z = V_k diag(s_k)^(-1/2) V_k' diag(1 / std) (x - mean)      # zca

    These are PCA-cor and ZCA-cor of Kessy, Lewin & Strimmer (2018, The American Statistician 72, 309), with the
    shrinkage ``a`` of Ledoit & Wolf (2004, Journal of Multivariate Analysis 88, 365). At ``a = 0`` the covariance of
    the training rows becomes the identity on the kept directions. The two kinds differ by a rotation, which a linear
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

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        """Fit on rows (n, d); `y` is not looked at.

        Raises:
            ValueError: Bad values or shapes, one row only, constant features, or a parameter out of its range.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        self._check_parameters()
        scaler = StandardScaler().fit(X)
        self.mean_ = scaler.mean_
        Z = (X - self.mean_) / scaler.scale_
        eigenvalues, directions = _decompose(Z)
        if not len(eigenvalues):
            raise ValueError("every feature is constant, and a constant cannot be whitened")
        self.shrinkage_ = _ledoit_wolf(Z, eigenvalues) if self.shrinkage == "ledoit_wolf" else self.shrinkage
        self.rank_ = min(len(eigenvalues), self.rank or len(eigenvalues))
        kept, directions = eigenvalues[: self.rank_], directions[: self.rank_]
        shrunk = (1 - self.shrinkage_) * kept + self.shrinkage_ * eigenvalues.sum() / X.shape[1]
        components = directions / np.sqrt(shrunk)[:, None] / scaler.scale_
        self.components_ = directions.T @ components if self.kind == "zca" else components
        return self

    def transform(self, X: Any) -> NDArray[np.floating]:
        """Whitened rows, (n, k) or (n, d), in the precision of `X`."""
        check_is_fitted(self, "components_")
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return np.asarray((X - self.mean_.astype(X.dtype)) @ self.components_.T.astype(X.dtype))

    def _check_parameters(self) -> None:
        if self.kind not in ("pca", "zca"):
            raise ValueError(f"kind must be pca or zca, not {self.kind!r}")
        if self.shrinkage != "ledoit_wolf" and not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage must be ledoit_wolf or lie between 0 and 1, not {self.shrinkage!r}")
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"rank must be 1 or more, not {self.rank}")


class WhitenedProbe(LinearProbe):
    """The linear probe on whitened features; both protocols, and all parameters, are those of `LinearProbe`.

    Full whitening gives the noise of the many small directions the weight of the few large ones, and the L2 penalty
    then no longer tells them apart. Shrinkage by Ledoit & Wolf, the default, keeps part of the order: the fewer rows,
    the more of it. Each fold of the cross-validation is whitened on its own training rows.

    Args:
        protocol: ``convex`` or ``paper``.
        random_state: As of `LinearProbe`.
        kind: As of `Whitening`.
        shrinkage: As of `Whitening`.
        rank: As of `Whitening`.
        class_weight: As of `LinearProbe`.
        strengths: As of `LinearProbe`.
        default_strength: As of `LinearProbe`.
        cv: As of `LinearProbe`.
        scoring: As of `LinearProbe`.
        epochs: As of `LinearProbe`.
        learning_rate: As of `LinearProbe`.
        batch_size: As of `LinearProbe`.

    Attributes:
        coef_: float32 (n_classes, d), for centred features: the whitening is folded into it.
        chosen_: As of `LinearProbe`, with ``shrinkage`` and ``rank``.
    """

    def __init__(
        self,
        protocol: str = "convex",
        random_state: int | None = 0,
        kind: Kind = "pca",
        shrinkage: Shrinkage = "ledoit_wolf",
        rank: int | None = None,
        class_weight: ClassWeight = "balanced",
        strengths: Sequence[float] = STRENGTHS,
        default_strength: float = 1e-2,
        cv: int = 3,
        scoring: str = "f1_macro",
        epochs: int = 100,
        learning_rate: float = 5e-4,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            protocol=protocol,
            random_state=random_state,
            class_weight=class_weight,
            strengths=strengths,
            default_strength=default_strength,
            cv=cv,
            scoring=scoring,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
        )
        self.kind = kind
        self.shrinkage = shrinkage
        self.rank = rank

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on features (n, d) and labels (n,).

        Raises:
            ValueError: As of `LinearProbe` and `Whitening`.
        """
        super().fit(X, y)
        self.chosen_ |= {"shrinkage": self.transform_.shrinkage_, "rank": self.transform_.rank_}
        return self

    def _make_transform(self) -> Whitening:
        return Whitening(self.kind, self.shrinkage, self.rank)

    def _pull_back(self, coef: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(coef @ self.transform_.components_)


def _decompose(Z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positive eigenvalues of ``Z'Z / n``, largest first, and their directions (k, d), from the smaller Gram matrix."""
    n, d = Z.shape
    gram = (Z.T @ Z if d <= n else Z @ Z.T) / n
    eigenvalues, vectors = np.linalg.eigh(gram)
    # Standardised rows have an eigenvalue of 1 or more, unless they are rounding errors of constants.
    kept = eigenvalues > max(n, d) * np.finfo(np.float64).eps * max(eigenvalues[-1], 1.0)
    eigenvalues, vectors = eigenvalues[kept][::-1], vectors[:, kept][:, ::-1]
    directions = vectors.T if d <= n else (vectors.T @ Z) / np.sqrt(n * eigenvalues)[:, None]
    return eigenvalues, directions


def _ledoit_wolf(Z: NDArray[np.float64], eigenvalues: NDArray[np.float64]) -> float:
    """Shrinkage of ``S = Z'Z / n`` towards a multiple of the identity (Ledoit & Wolf 2004), from its eigenvalues.

    It is the variance of S over its squared distance from that target, both per column. scikit-learn's own function
    would form two more (d, d) products.
    """
    n, d = Z.shape
    squares = (eigenvalues**2).sum()
    distance = squares / d - (eigenvalues.sum() / d) ** 2
    variance = (np.mean((Z**2).sum(axis=1) ** 2) - squares) / (n * d)
    return float(min(variance / distance, 1.0)) if distance > 0 else 0.0
