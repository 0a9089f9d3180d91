"""The linear probe: multinomial logistic regression at a cross-validated `C`, or the study's SGD."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, partialmethod
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from probes.heads.base import ClassWeight, Floats, Probe, weigh_classes
from probes.heads.choice import Trial, choose_steadily, try_coarsely
from probes.heads.folds import Mask, Numbers, draw_folds
from probes.heads.whitening import Kind, Shrinkage, Whitening
from probes.results.scores import Metric, macro_scores
from probes.solvers.backend import array_library
from probes.solvers.factorisation import Axes, Factorisation, factorise
from probes.solvers.logistic import MemoryRows, Problems, judge, solve
from probes.solvers.network import ClassIndex, Layer, initialise
from probes.solvers.optimisers import LabelledRows, Schedule, descend
from probes.solvers.scaling import Doubles, Scaling, StandardisedRows, find_scaling, standardise

CS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Candidates of `C`. With standardised features of some hundred columns the best one is near 1e-2."""

SEARCH_TOL = 3e-2
"""Norm of the gradient at which a fold stops; the rest matters less than the draw of the folds."""

FINAL_TOL = 1e-4
"""Norm of the gradient at which the chosen `C` stops: no entry exceeds the default of scikit-learn."""

SharedKind = Literal["similar", "exact", "standardised"]
"""A factorisation of rows like the training rows, or of exactly these; or these, standardised."""

Shared = Factorisation | StandardisedRows | None

ENOUGH_ROWS = 2_000
"""Rows that are held out altogether, if `MOST_REPEATS` allows: folds of few rows are drawn several times."""

MOST_REPEATS = 3

Choice = tuple[float, int, Floats | None]
"""A `C`, the number of folds behind it, and coefficients to start from."""


class LinearProbe(Probe):
    """One linear layer on features that are standardised, or whitened, on the training rows.

    Protocol ``cv``: logistic regression with an L2 penalty, fitted to its optimum. Its `C` is chosen by repeated
    stratified folds of the training rows, see `probes.heads.choice.choose_steadily`; then all rows are fitted. Every
    other candidate is tried first, then those beside the ones that may win, and these again on other folds where rows
    are few (`ENOUGH_ROWS`). The folds share the standardisation
    or whitening of all training rows, which looks at no label. With fewer members (or groups) of a class than folds
    there are fewer folds, and with a single one there is no cross-validation and `default_C` is used. Where validation
    rows are given, `C` is the one with the best score on them (the smallest of equals), without folds.

    Protocol ``paper``: softmax cross-entropy by SGD without momentum, as in Lastufka et al. (2025); the last epoch is
    kept.

    Whitening gives the noise of the many small directions the weight of the few large ones, and the L2 penalty then no
    longer tells them apart. Shrinkage by Ledoit & Wolf, the default, keeps part of the order: the fewer rows, the more
    of it. The folds share the whitening, which has seen the held-out rows: their losses are too small, most of all
    at large `C`. So the strongest penalty whose score is as good as the best is chosen there, whatever the losses are.

    Args:
        protocol: ``cv`` or ``paper``.
        random_state: Seed of the folds, or of the initial weights and the order of the batches.
        class_weight: ``balanced`` for weights inversely proportional to the training counts, None, or label -> weight.
        Cs: Candidates of `C`, as of scikit-learn: ``C * sum(weight * cross_entropy) + ||W||^2 / 2`` is minimised, the
            intercept is free (``cv``).
        default_C: `C` where it cannot be cross-validated (``cv``).
        cv: Number of folds, each time they are drawn (``cv``).
        scoring: What is best on a fold: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy`` (``cv``).
        epochs: Passes over the training rows (``paper``).
        learning_rate: Step size (``paper``).
        batch_size: Rows in a step (``paper``).
        whitening: None for standardised features, ``pca`` or ``zca``; see `Whitening`.
        shrinkage: See `Whitening`.
        rank: See `Whitening`.

    Attributes:
        classes_: Sorted labels.
        mean_: float32 (d,), mean of the training rows.
        coef_: float32 (n_classes, d); the logits are ``(X - mean_) @ coef_.T + intercept_``. Standardisation or
            whitening is folded into it.
        intercept_: float32 (n_classes,).
        chosen_: ``C``, ``folds`` (of all draws) and ``solver``, the array library (``cv``), or ``epochs`` (``paper``);
            ``shrinkage`` and ``rank`` of the whitening.
        whitening_: The whitening, where there is one; prediction does not need it.
    """

    uses_validation: ClassVar[bool] = True
    uses_groups: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("mean_", "coef_", "intercept_")

    mean_: Floats
    coef_: Floats
    intercept_: Floats
    whitening_: Whitening

    def __init__(
        self,
        protocol: str = "cv",
        random_state: int | None = 0,
        class_weight: ClassWeight = "balanced",
        Cs: Sequence[float] = CS,
        default_C: float = 1e-2,
        cv: int = 5,
        scoring: Metric = "f1",
        epochs: int = 100,
        learning_rate: float = 5e-4,
        batch_size: int = 64,
        whitening: Kind | None = None,
        shrinkage: Shrinkage = "ledoit_wolf",
        rank: int | None = None,
    ) -> None:
        self.protocol = protocol
        self.random_state = random_state
        self.class_weight = class_weight
        self.Cs = Cs
        self.default_C = default_C
        self.cv = cv
        self.scoring = scoring
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.whitening = whitening
        self.shrinkage = shrinkage
        self.rank = rank

    @property
    def wants(self) -> SharedKind:
        """What `fit` computes if it is not given it, and other heads may have computed."""
        if self.whitening is not None:
            return "exact"
        return "similar" if self.protocol == "cv" else "standardised"

    def fit(
        self, X: Any, y: Any, X_valid: Any = None, y_valid: Any = None, groups: Any = None, shared: Shared = None
    ) -> Self:
        """Fit on features (n, d) and labels (n,).

        Args:
            X: Features of the training rows.
            y: Labels of the training rows.
            X_valid: Features of rows to choose `C` by (``cv``); ``paper`` does not look at them.
            y_valid: Labels of these rows, each of which occurs in `y`.
            groups: (n,) Group of each training row; no fold holds a part of a group. None: every row for itself.
            shared: What the head `wants`, if it is known. ``exact``: the factorisation of these rows. ``similar``:
                that, or one whose directions are a basis of all columns, as that of more rows: they are the axes of
                the solver, and decide how many steps it takes, not where it ends. ``standardised``: these rows.

        Raises:
            ValueError: Bad values or shapes, fewer than two classes, or an unknown protocol.
        """
        self._check_protocol(self.protocol)
        X, targets = self._check_training(X, y)
        units = self._check_groups(groups, len(X))
        transform, Z = self._transform(X, shared)
        if self.protocol == "paper":
            coef, intercept = self._fit_paper(Z, targets)
        else:
            valid = None if X_valid is None else self._check_validation(X_valid, y_valid)
            coef, intercept = self._fit_cv(Z, targets, units, valid and (transform.project(valid[0]), valid[1]))
        self.mean_ = transform.mean.astype(np.float32)
        self.coef_ = transform.to_input_space(coef).astype(np.float32)
        self.intercept_ = intercept.astype(np.float32)
        if self.whitening is not None:
            self.chosen_ |= {"shrinkage": self.whitening_.shrinkage_, "rank": self.whitening_.rank_}
        return self

    def _transform(self, X: Floats, shared: Shared) -> tuple[Axes | Scaling, Floats]:
        """The affine map in front of the layer, and what it makes of X; for ``cv`` uncorrelated columns."""
        found = shared if isinstance(shared, Factorisation) else None
        if self.whitening is not None:
            # Whitened columns are uncorrelated for the kind pca only; to the penalty of cv the kinds are the same.
            kind: Kind = "pca" if self.protocol == "cv" else self.whitening
            self.whitening_ = Whitening(kind, self.shrinkage, self.rank).fit(X, factorisation=found)
            axes = self.whitening_.axes
        elif self.protocol == "paper":
            rows = shared if isinstance(shared, StandardisedRows) else standardise(X)
            return rows.scaling, rows.values
        else:
            axes = (found or factorise(X)).axes(find_scaling(X))
        return axes, axes.project(X)

    def _probabilities(self, X: Floats) -> Floats:
        return np.asarray(softmax((X - self.mean_) @ self.coef_.T + self.intercept_, axis=1))

    def _fit_cv(
        self, Z: Floats, targets: ClassIndex, groups: Numbers | None, valid: tuple[Floats, ClassIndex] | None
    ) -> Layer:
        rows = MemoryRows(Z)
        choice = self._validate(rows, targets, *valid) if valid else self._cross_validate(rows, targets, groups)
        C, n_folds, start = choice
        everything = np.ones((1, len(targets)), dtype=bool)
        found = solve(rows, self._make_problems(targets, everything, [C]), tol=FINAL_TOL, start=start)
        self.chosen_ = {"C": float(C), "folds": n_folds, "solver": array_library().__name__}
        return found[0, 0, :, :-1], found[0, 0, :, -1]

    def _validate(self, rows: MemoryRows, targets: ClassIndex, Z_valid: Floats, truth: ClassIndex) -> Choice:
        """As `_cross_validate`, but all rows are fitted at every `C`, and other ones are predicted."""
        Cs, everything = sorted(self.Cs), np.ones((1, len(targets)), dtype=bool)
        found = solve(rows, self._make_problems(targets, everything, Cs), tol=SEARCH_TOL)
        predicted, _ = judge(MemoryRows(Z_valid), found[0], truth)
        best = int(self._score(truth, predicted).argmax())
        return Cs[best], 0, found[:, best].mean(axis=0)

    def _cross_validate(self, rows: MemoryRows, targets: ClassIndex, groups: Numbers | None) -> Choice:
        """`C`, the number of folds it was cross-validated on, 0 for none, and the mean of their coefficients."""
        Cs, rng, found = np.sort(self.Cs), np.random.default_rng(self.random_state), None
        if len(Cs) == 1:
            return float(Cs[0]), 0, None
        for _ in range(min(MOST_REPEATS, -(-ENOUGH_ROWS // len(targets)))):
            held_out = draw_folds(targets, self.cv, rng, groups)
            if not len(held_out):
                break
            attempt = partial(self._try, rows, targets, held_out, Cs)
            found = found.then(attempt(found.numbers)) if found else try_coarsely(attempt, len(Cs))
            found = found.contenders()
            if len(found.numbers) == 1:
                break
        if found is None:
            return self.default_C, 0, None
        best = choose_steadily(found.scores, found.losses if self.whitening is None else None)
        return float(Cs[found.numbers[best]]), len(found.scores), found.starts[best]

    def _try(
        self, rows: MemoryRows, targets: ClassIndex, held_out: Mask, Cs: Doubles, numbers: NDArray[np.intp]
    ) -> Trial:
        """Fit some candidates without the rows of each fold, and judge them by these."""
        found = solve(rows, self._make_problems(targets, ~held_out, Cs[numbers]), tol=SEARCH_TOL)
        weights = weigh_classes(self.class_weight, self.classes_, targets)
        scores, losses = [], []
        for fold, coefficients in zip(held_out, found, strict=True):
            predicted, cross_entropy = judge(rows.take(fold), coefficients, targets[fold])
            scores.append(self._score(targets[fold], predicted))
            losses.append(cross_entropy @ weights[targets[fold]])
        return Trial(numbers, np.stack(scores), np.sum(losses, axis=0, dtype=np.float64), found.mean(axis=0))

    def _make_problems(self, targets: ClassIndex, inside: Mask, Cs: Sequence[float] | Doubles) -> Problems:
        """Every `C` on each of some subsets of the rows, (w, n), whose classes are weighed by their own counts."""
        of_class = [weigh_classes(self.class_weight, self.classes_, targets[rows]) for rows in inside]
        weights = np.stack(of_class)[:, targets] * inside
        return Problems(targets, len(self.classes_), weights, Cs)

    def _score(self, targets: ClassIndex, predicted: ClassIndex) -> Doubles:
        """Score of predictions (k, n), (k,)."""
        k, n_classes = len(predicted), len(self.classes_)
        cells = (np.arange(k)[:, None] * n_classes + targets) * n_classes + predicted
        counts = np.bincount(cells.ravel(), minlength=k * n_classes**2).astype(np.float64)
        return macro_scores(counts.reshape(k, n_classes, n_classes), self.scoring)

    def _fit_paper(self, Z: Floats, targets: ClassIndex) -> Layer:
        rng = np.random.default_rng(self.random_state)
        rows = LabelledRows(Z, targets, weigh_classes(self.class_weight, self.classes_, targets))
        layers = initialise([Z.shape[1], len(self.classes_)], rng)
        schedule = Schedule(self.learning_rate, self.batch_size, self.epochs)
        (layer,) = descend(layers, rows, schedule, rng)
        self.chosen_ = {"epochs": self.epochs}
        return layer


class WhitenedProbe(LinearProbe):
    """`LinearProbe` on whitened features: its parameter `whitening` is ``pca`` unless asked otherwise."""

    __init__ = partialmethod(LinearProbe.__init__, whitening="pca")
