"""The linear probe: multinomial logistic regression at a cross-validated strength, or the study's SGD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import get_scorer
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from probes.backend import active_backend, logistic_regression
from probes.base import ClassWeight, Floats, Probe, weigh_classes
from probes.network import Columns, Layer, initialise
from probes.optimisers import LabelledRows, Schedule, descend

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Candidates of `C`. With standardised features of some hundred columns the best one is near 1e-2."""

SEARCH_TOL = 1e-3
"""Gradient at which a fold stops; the rest moves single predictions, and matters less than the draw of the folds."""

FINAL_TOL = 1e-4
"""Gradient at which the chosen strength stops: the default of scikit-learn."""


class LinearProbe(Probe):
    """One linear layer on features that are standardised on the training rows.

    Protocol ``convex``: logistic regression with an L2 penalty, fitted to its optimum. Its strength `C` is the one with
    the best mean score over stratified folds of the training rows (the smallest of equals), each fold standardised on
    its own; then all rows are fitted. With fewer members of a class than folds there are fewer folds, and with a single
    member there is no cross-validation and `default_strength` is used.

    Protocol ``paper``: softmax cross-entropy by SGD without momentum, as in Lastufka et al. (2025); the last epoch is
    kept.

    Args:
        protocol: ``convex`` or ``paper``.
        random_state: Seed of the folds, or of the initial weights and the order of the batches.
        class_weight: ``balanced`` for weights inversely proportional to the training counts, None, or label -> weight.
        strengths: Candidates of `C`, the inverse of the penalty, as of scikit-learn (``convex``).
        default_strength: `C` where it cannot be cross-validated (``convex``).
        cv: Number of folds (``convex``).
        scoring: Name of a scikit-learn scorer (``convex``).
        epochs: Passes over the training rows (``paper``).
        learning_rate: Step size (``paper``).
        batch_size: Rows in a step (``paper``).

    Attributes:
        classes_: Sorted labels.
        transform_: The affine transform in front of the layer; prediction does not need it.
        mean_: float32 (d,), mean of the training rows.
        coef_: float32 (n_classes, d); the logits are ``(X - mean_) @ coef_.T + intercept_``.
        intercept_: float32 (n_classes,).
        chosen_: ``strength``, ``folds`` and ``solver`` (``convex``), or ``epochs`` (``paper``).
    """

    fitted: ClassVar[tuple[str, ...]] = ("mean_", "coef_", "intercept_")

    transform_: Any
    mean_: Floats
    coef_: Floats
    intercept_: Floats

    def __init__(
        self,
        protocol: str = "convex",
        random_state: int | None = 0,
        class_weight: ClassWeight = "balanced",
        strengths: Sequence[float] = STRENGTHS,
        default_strength: float = 1e-2,
        cv: int = 3,
        scoring: str = "f1_macro",
        epochs: int = 100,
        learning_rate: float = 5e-4,
        batch_size: int = 64,
    ) -> None:
        self.protocol = protocol
        self.random_state = random_state
        self.class_weight = class_weight
        self.strengths = strengths
        self.default_strength = default_strength
        self.cv = cv
        self.scoring = scoring
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any) -> Self:
        """Fit on features (n, d) and labels (n,).

        Raises:
            ValueError: Bad values or shapes, fewer than two classes, or an unknown protocol.
        """
        self._check_protocol(self.protocol)
        X, columns = self._check_training(X, y)
        self.transform_ = self._make_transform()
        Z = self.transform_.fit_transform(X)
        coef, intercept = self._fit_convex(X, Z, columns) if self.protocol == "convex" else self._fit_paper(Z, columns)
        self.mean_ = self.transform_.mean_.astype(np.float32)
        self.coef_ = self._pull_back(coef).astype(np.float32)
        self.intercept_ = intercept.astype(np.float32)
        return self

    def _make_transform(self) -> Any:
        """The unfitted affine transform in front of the linear layer."""
        return StandardScaler()

    def _pull_back(self, coef: NDArray[Any]) -> NDArray[Any]:
        """Coefficients of centred features from those of transformed features."""
        return np.asarray(coef / self.transform_.scale_)

    def _probabilities(self, X: Floats) -> Floats:
        return np.asarray(softmax((X - self.mean_) @ self.coef_.T + self.intercept_, axis=1))

    def _fit_convex(self, X: Floats, Z: Floats, columns: Columns) -> Layer:
        strength, n_folds = self._choose_strength(X, columns)
        model = self._make_model(columns, FINAL_TOL).set_params(C=strength).fit(Z, columns)
        self.chosen_ = {"strength": float(strength), "folds": n_folds, "solver": active_backend()}
        return _one_row_a_class(model.coef_), _one_row_a_class(model.intercept_)

    def _choose_strength(self, X: Floats, columns: Columns) -> tuple[float, int]:
        """Strength, and the number of folds it was cross-validated on; 0 for none."""
        strengths = sorted(self.strengths)
        n_folds = min(self.cv, int(np.bincount(columns).min()))
        if len(strengths) == 1 or n_folds < 2:
            return (strengths[0] if len(strengths) == 1 else self.default_strength), 0
        seed = int(np.random.default_rng(self.random_state).integers(2**31))
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(X, columns)
        scores = [self._score_fold(X, columns, train, valid) for train, valid in folds]
        return strengths[int(np.mean(scores, axis=0).argmax())], n_folds

    def _score_fold(self, X: Floats, columns: Columns, train: Columns, valid: Columns) -> list[float]:
        """Score on `valid` at every strength, in ascending order: the path starts each fit from the one before."""
        transform = self._make_transform()
        Z_train, Z_valid = transform.fit_transform(X[train]), transform.transform(X[valid])
        model = self._make_model(columns[train], SEARCH_TOL)
        score = get_scorer(self.scoring)
        paths = (model.set_params(C=strength).fit(Z_train, columns[train]) for strength in sorted(self.strengths))
        return [score(fitted, Z_valid, columns[valid]) for fitted in paths]

    def _make_model(self, columns: Columns, tol: float) -> Any:
        weights = weigh_classes(self.class_weight, self.classes_, columns)
        return logistic_regression(tol=tol, class_weight=dict(enumerate(weights.tolist())))

    def _fit_paper(self, Z: Floats, columns: Columns) -> Layer:
        rng = np.random.default_rng(self.random_state)
        rows = LabelledRows(Z, columns, weigh_classes(self.class_weight, self.classes_, columns))
        layers = initialise([Z.shape[1], len(self.classes_)], rng)
        schedule = Schedule(self.learning_rate, self.batch_size, self.epochs)
        (layer,) = descend(layers, rows, schedule, rng)
        self.chosen_ = {"epochs": self.epochs}
        return layer


def _one_row_a_class(values: NDArray[Any]) -> Floats:
    """The one row of a two-class problem, whose sigmoid is the second class, as two rows with the same softmax."""
    return np.concatenate([-values / 2, values / 2]) if len(values) == 1 else values
