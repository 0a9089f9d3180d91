"""The linear probe: multinomial logistic regression at a cross-validated strength, or the study's SGD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.model_selection import StratifiedKFold

from probes.heads.base import ClassWeight, Floats, Probe, weigh_classes
from probes.results.scores import Metric, macro_scores
from probes.solvers.backend import array_library
from probes.solvers.factorisation import Axes, Factorisation, factorise
from probes.solvers.logistic import MemoryRows, Problems, classify, solve
from probes.solvers.network import Columns, Layer, initialise
from probes.solvers.optimisers import LabelledRows, Schedule, descend
from probes.solvers.scaling import Scaling, StandardisedRows, find_scaling, standardise

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Candidates of `C`. With standardised features of some hundred columns the best one is near 1e-2."""

SEARCH_TOL = 1e-2
"""Norm of the gradient at which a fold stops; the rest matters less than the draw of the folds."""

FINAL_TOL = 1e-4
"""Norm of the gradient at which the chosen strength stops: no entry exceeds the default of scikit-learn."""

ExtractionRequest = Literal["similar", "exact", "standardised"]
"""A factorisation of rows like the training rows, or of exactly these; or these, standardised."""

Shared = Factorisation | StandardisedRows | None

Choice = tuple[float, int, Floats | None]
"""A strength, the number of folds behind it, and coefficients to start from."""


class LinearProbe(Probe):
    """One linear layer on features that are standardised on the training rows.

    Protocol ``convex``: logistic regression with an L2 penalty, fitted to its optimum. Its strength `C` is the one with
    the best mean score over stratified folds of the training rows (the smallest of equals); then all rows are fitted.
    The folds share the standardisation of all training rows, which looks at no label. With fewer members of a class
    than folds there are fewer folds, and with a single member there is no cross-validation and `default_strength` is
    used. Where validation rows are given, the strength is the one with the best score on them, without folds.

    Protocol ``paper``: softmax cross-entropy by SGD without momentum, as in Lastufka et al. (2025); the last epoch is
    kept.

    Args:
        protocol: ``convex`` or ``paper``.
        random_state: Seed of the folds, or of the initial weights and the order of the batches.
        class_weight: ``balanced`` for weights inversely proportional to the training counts, None, or label -> weight.
        strengths: Candidates of `C`, as of scikit-learn: ``C * sum(weight * cross_entropy) + ||W||^2 / 2`` is
            minimised, the intercept is free (``convex``).
        default_strength: `C` where it cannot be cross-validated (``convex``).
        cv: Number of folds (``convex``).
        scoring: What is best on a fold: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy`` (``convex``).
        epochs: Passes over the training rows (``paper``).
        learning_rate: Step size (``paper``).
        batch_size: Rows in a step (``paper``).

    Attributes:
        classes_: Sorted labels.
        mean_: float32 (d,), mean of the training rows.
        coef_: float32 (n_classes, d); the logits are ``(X - mean_) @ coef_.T + intercept_``.
        intercept_: float32 (n_classes,).
        chosen_: ``strength``, ``folds`` and ``solver``, the array library (``convex``), or ``epochs`` (``paper``).
    """

    uses_validation: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("mean_", "coef_", "intercept_")

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
        scoring: Metric = "f1",
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

    @property
    def wants(self) -> ExtractionRequest:
        """What `fit` computes if it is not given it, and other heads may have computed."""
        return "similar" if self.protocol == "convex" else "standardised"

    def fit(self, X: Any, y: Any, X_valid: Any = None, y_valid: Any = None, shared: Shared = None) -> Self:
        """Fit on features (n, d) and labels (n,).

        Args:
            X: Features of the training rows.
            y: Labels of the training rows.
            X_valid: Features of rows to choose the strength by (``convex``); ``paper`` does not look at them.
            y_valid: Labels of these rows, each of which occurs in `y`.
            shared: What the head `wants`, if it is known. ``similar``: the factorisation of these rows, or one whose
                directions are a basis of all columns, as that of more rows: they are the axes of the solver, and
                decide how many steps it takes, not where it ends. ``standardised``: these rows.

        Raises:
            ValueError: Bad values or shapes, fewer than two classes, or an unknown protocol.
        """
        self._check_protocol(self.protocol)
        X, columns = self._check_training(X, y)
        transform, Z = self._transform(X, shared)
        if self.protocol == "paper":
            coef, intercept = self._fit_paper(Z, columns)
        else:
            valid = None if X_valid is None else self._check_validation(X_valid, y_valid)
            coef, intercept = self._fit_convex(Z, columns, valid and (transform.project(valid[0]), valid[1]))
        self.mean_ = transform.mean.astype(np.float32)
        self.coef_ = transform.pull_back(coef).astype(np.float32)
        self.intercept_ = intercept.astype(np.float32)
        return self

    def _transform(self, X: Floats, shared: Shared) -> tuple[Axes | Scaling, Floats]:
        """The affine map in front of the layer, and what it makes of X; for ``convex`` uncorrelated columns."""
        if self.protocol == "paper":
            rows = shared if isinstance(shared, StandardisedRows) else standardise(X)
            return rows.scaling, rows.values
        axes = (shared if isinstance(shared, Factorisation) else factorise(X)).axes(find_scaling(X))
        return axes, axes.project(X)

    def _probabilities(self, X: Floats) -> Floats:
        return np.asarray(softmax((X - self.mean_) @ self.coef_.T + self.intercept_, axis=1))

    def _fit_convex(self, Z: Floats, columns: Columns, valid: tuple[Floats, Columns] | None) -> Layer:
        rows = MemoryRows(Z)
        choice = self._cross_validate(rows, columns) if valid is None else self._validate(rows, columns, *valid)
        strength, n_folds, start = choice
        everything = np.ones((1, len(columns)), dtype=bool)
        found = solve(rows, self._make_problems(columns, everything, [strength]), tol=FINAL_TOL, start=start)
        self.chosen_ = {"strength": float(strength), "folds": n_folds, "solver": array_library().__name__}
        return found[0, 0, :, :-1], found[0, 0, :, -1]

    def _validate(self, rows: MemoryRows, columns: Columns, Z_valid: Floats, truth: Columns) -> Choice:
        """As `_cross_validate`, but all rows are fitted at every strength, and other ones are predicted."""
        strengths, everything = sorted(self.strengths), np.ones((1, len(columns)), dtype=bool)
        found = solve(rows, self._make_problems(columns, everything, strengths), tol=SEARCH_TOL)
        best = int(self._score(truth, classify(MemoryRows(Z_valid), found)[0]).argmax())
        return strengths[best], 0, found[:, best].mean(axis=0)

    def _cross_validate(self, rows: MemoryRows, columns: Columns) -> Choice:
        """Strength, the number of folds it was cross-validated on, 0 for none, and the mean of their coefficients."""
        strengths = sorted(self.strengths)
        n_folds = min(self.cv, int(np.bincount(columns).min()))
        if len(strengths) == 1 or n_folds < 2:
            return (strengths[0] if len(strengths) == 1 else self.default_strength), 0, None
        seed = int(np.random.default_rng(self.random_state).integers(2**31))
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(columns, columns)
        inside = np.ones((n_folds, len(columns)), dtype=bool)
        for fold, (_, held_out) in enumerate(folds):
            inside[fold, held_out] = False
        found = solve(rows, self._make_problems(columns, inside, strengths), tol=SEARCH_TOL)
        predicted = classify(rows, found)
        scores = [self._score(columns[~kept], guess[:, ~kept]) for kept, guess in zip(inside, predicted, strict=True)]
        best = int(np.mean(scores, axis=0).argmax())
        return strengths[best], n_folds, found[:, best].mean(axis=0)

    def _make_problems(self, columns: Columns, inside: NDArray[np.bool_], strengths: Sequence[float]) -> Problems:
        """Every strength on each of some subsets of the rows, (w, n), whose classes are weighed by their own counts."""
        of_class = [weigh_classes(self.class_weight, self.classes_, columns[kept]) for kept in inside]
        weights = np.stack(of_class)[:, columns] * inside
        return Problems(columns, len(self.classes_), weights, strengths)

    def _score(self, columns: Columns, predicted: Columns) -> NDArray[np.float64]:
        """Score of predictions (k, n), (k,)."""
        k, n_classes = len(predicted), len(self.classes_)
        cells = (np.arange(k)[:, None] * n_classes + columns) * n_classes + predicted
        counts = np.bincount(cells.ravel(), minlength=k * n_classes**2).astype(np.float64)
        return macro_scores(counts.reshape(k, n_classes, n_classes), self.scoring)

    def _fit_paper(self, Z: Floats, columns: Columns) -> Layer:
        rng = np.random.default_rng(self.random_state)
        rows = LabelledRows(Z, columns, weigh_classes(self.class_weight, self.classes_, columns))
        layers = initialise([Z.shape[1], len(self.classes_)], rng)
        schedule = Schedule(self.learning_rate, self.batch_size, self.epochs)
        (layer,) = descend(layers, rows, schedule, rng)
        self.chosen_ = {"epochs": self.epochs}
        return layer
