"""Whitening of features, and the linear and the MLP probe on whitened features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from probes.heads.base import ClassWeight, Floats
from probes.heads.linear import STRENGTHS, ExtractionRequest, LinearProbe, Shared
from probes.heads.mlp import MLPProbe
from probes.results.scores import Metric
from probes.solvers.factorisation import Axes, Factorisation, factorise

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
        kept, directions = eigenvalues[: self.rank_], found.directions[: self.rank_]
        shrunk = (1 - self.shrinkage_) * kept + self.shrinkage_ * eigenvalues.sum() / X.shape[1]
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


class WhitenedProbe(LinearProbe):
    """The linear probe on whitened features; both protocols, and all parameters, are those of `LinearProbe`.

    Full whitening gives the noise of the many small directions the weight of the few large ones, and the L2 penalty
    then no longer tells them apart. Shrinkage by Ledoit & Wolf, the default, keeps part of the order: the fewer rows,
    the more of it. The folds share the whitening of all training rows, which looks at no label; where these are few,
    it sets held-out rows further apart from the others than test rows are, and the choice leans to a strong penalty.

    Args:
        protocol: ``convex`` or ``paper``.
        random_state: See `LinearProbe`.
        kind: See `Whitening`.
        shrinkage: See `Whitening`.
        rank: See `Whitening`.
        class_weight: See `LinearProbe`.
        strengths: See `LinearProbe`.
        default_strength: See `LinearProbe`.
        cv: See `LinearProbe`.
        scoring: See `LinearProbe`.
        epochs: See `LinearProbe`.
        learning_rate: See `LinearProbe`.
        batch_size: See `LinearProbe`.

    Attributes:
        coef_: float32 (n_classes, d), for centred features: the whitening is folded into it.
        whitening_: The whitening; prediction does not need it.
        chosen_: See `LinearProbe`, with ``shrinkage`` and ``rank``.
    """

    whitening_: Whitening

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
        scoring: Metric = "f1",
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

    @property
    def wants(self) -> ExtractionRequest:
        """Both protocols whiten the training rows themselves."""
        return "exact"

    def fit(self, X: Any, y: Any, X_valid: Any = None, y_valid: Any = None, shared: Shared = None) -> Self:
        """Fit on features (n, d) and labels (n,).

        Args:
            X: Features.
            y: Labels.
            X_valid: See `LinearProbe.fit`.
            y_valid: See `LinearProbe.fit`.
            shared: The factorisation of exactly these rows, if it is known.

        Raises:
            ValueError: See `LinearProbe` and `Whitening`.
        """
        super().fit(X, y, X_valid, y_valid, shared)
        self.chosen_ |= {"shrinkage": self.whitening_.shrinkage_, "rank": self.whitening_.rank_}
        return self

    def _transform(self, X: Floats, shared: Shared) -> tuple[Axes, Floats]:
        # Whitened columns are uncorrelated for the kind pca only; to the penalty of convex the kinds are the same.
        kind: Kind = "pca" if self.protocol == "convex" else self.kind
        found = shared if isinstance(shared, Factorisation) else None
        self.whitening_ = Whitening(kind, self.shrinkage, self.rank).fit(X, factorisation=found)
        axes = self.whitening_.axes
        return axes, axes.project(X)


class WhitenedMLPProbe(MLPProbe):
    """The MLP probe on whitened features; both protocols, and all parameters, are those of `MLPProbe`.

    The whitening is fitted on the rows to learn from: never on those that are held out or given to stop on.

    Args:
        protocol: ``convex`` or ``paper``.
        random_state: See `MLPProbe`.
        kind: See `Whitening`.
        shrinkage: See `Whitening`.
        rank: See `Whitening`.
        hidden: See `MLPProbe`.
        balanced: See `MLPProbe`.
        epochs: See `MLPProbe`.
        learning_rate: See `MLPProbe`.
        batch_size: See `MLPProbe`.
        patience: See `MLPProbe`.
        weight_decay: See `MLPProbe`.

    Attributes:
        hidden_coef_: float32 (hidden, d), for centred features: the whitening is folded into it.
        whitening_: The whitening; prediction does not need it.
        chosen_: See `MLPProbe`, with ``shrinkage`` and ``rank``.
    """

    whitening_: Whitening

    def __init__(
        self,
        protocol: str = "convex",
        random_state: int | None = 0,
        kind: Kind = "pca",
        shrinkage: Shrinkage = "ledoit_wolf",
        rank: int | None = None,
        hidden: int | None = None,
        balanced: bool = True,
        epochs: int = 100,
        learning_rate: float = 5e-4,
        batch_size: int = 64,
        patience: int = 10,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(
            protocol=protocol,
            random_state=random_state,
            hidden=hidden,
            balanced=balanced,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            patience=patience,
            weight_decay=weight_decay,
        )
        self.kind = kind
        self.shrinkage = shrinkage
        self.rank = rank

    def fit(self, X: Any, y: Any, X_valid: Any = None, y_valid: Any = None) -> Self:
        """Fit on features (n, d) and labels (n,); arguments as in `MLPProbe.fit`.

        Raises:
            ValueError: See `MLPProbe` and `Whitening`.
        """
        super().fit(X, y, X_valid, y_valid)
        self.chosen_ |= {"shrinkage": self.whitening_.shrinkage_, "rank": self.whitening_.rank_}
        return self

    def _transform(self, X: Floats) -> tuple[Axes, Floats]:
        self.whitening_ = Whitening(self.kind, self.shrinkage, self.rank).fit(X)
        axes = self.whitening_.axes
        return axes, axes.project(X)
