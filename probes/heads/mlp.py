"""The MLP probe: two fully connected layers, by AdamW with early stopping or by the study's SGD."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from probes.heads.base import Floats, Probe, weigh_classes
from probes.solvers.factorisation import Axes
from probes.solvers.network import Columns, compute_logits, initialise
from probes.solvers.optimisers import LabelledRows, Schedule, descend, descend_early
from probes.solvers.scaling import Scaling, standardise

Sample = tuple[Floats, Columns]

HIDDEN = 256
"""Hidden units under ``convex`` unless asked otherwise: enough for some thousand rows, and quick on a CPU."""

HELD_OUT = 0.15
"""Share of the training rows to stop on when no validation rows are given."""


class MLPProbe(Probe):
    """Two fully connected layers with a ReLU between, on features that are standardised on the training rows.

    Protocol ``convex`` (here the name of the rules, not of the problem): AdamW, stopped when the macro-F1 of the
    validation rows no longer rises; the best epoch is kept. Without validation rows a stratified 15 % of the training
    rows is held out for that and not learnt from; a class of up to three rows gives none.

    Protocol ``paper``: SGD without momentum, as in Lastufka et al. (2025); the last epoch is kept.

    Args:
        protocol: ``convex`` or ``paper``.
        random_state: Seed of the held-out rows, the initial weights and the order of the batches.
        hidden: Hidden units; for None the width of the features (``paper``), or 256 (``convex``).
        balanced: Whether classes weigh the same in the loss, by weights inversely proportional to the training counts;
            else rows do. There is no ``class_weight``: stopping on macro-F1 would undo weights of one's own.
        epochs: Passes over the training rows; under ``convex`` at most.
        learning_rate: Step size.
        batch_size: Rows in a step.
        patience: Epochs without a better validation score after which it stops (``convex``).
        weight_decay: Decoupled weight decay (``convex``).

    Attributes:
        classes_: Sorted labels.
        mean_: float32 (d,), mean of the training rows.
        hidden_coef_: float32 (hidden, d), for centred features: the standardisation is folded into it.
        hidden_intercept_: float32 (hidden,).
        coef_: float32 (n_classes, hidden).
        intercept_: float32 (n_classes,).
        chosen_: ``epochs`` (``convex``: the best one, counted from 1), ``hidden`` and ``held_out``, the rows
            of `X` that it stopped on.
    """

    uses_validation: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("mean_", "hidden_coef_", "hidden_intercept_", "coef_", "intercept_")

    mean_: Floats
    hidden_coef_: Floats
    hidden_intercept_: Floats
    coef_: Floats
    intercept_: Floats

    def __init__(
        self,
        protocol: str = "convex",
        random_state: int | None = 0,
        hidden: int | None = None,
        balanced: bool = True,
        epochs: int = 100,
        learning_rate: float = 5e-4,
        batch_size: int = 64,
        patience: int = 10,
        weight_decay: float = 0.01,
    ) -> None:
        self.protocol = protocol
        self.random_state = random_state
        self.hidden = hidden
        self.balanced = balanced
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.patience = patience
        self.weight_decay = weight_decay

    def fit(self, X: Any, y: Any, X_valid: Any = None, y_valid: Any = None) -> Self:
        """Fit on features (n, d) and labels (n,).

        Args:
            X: Features of the training rows.
            y: Labels of the training rows.
            X_valid: Features of rows to stop on (``convex``); ``paper`` does not look at them.
            y_valid: Labels of these rows, each of which occurs in `y`.

        Raises:
            ValueError: Bad values or shapes, fewer than two classes, or an unknown protocol.
        """
        self._check_protocol(self.protocol)
        X, columns = self._check_training(X, y)
        rng = np.random.default_rng(self.random_state)
        train, valid = self._divide((X, columns), X_valid, y_valid, rng)
        self._learn(train, valid, rng)
        self.chosen_["held_out"] = len(X) - len(train[0])
        return self

    def _probabilities(self, X: Floats) -> Floats:
        layers = [(self.hidden_coef_, self.hidden_intercept_), (self.coef_, self.intercept_)]
        return np.asarray(softmax(compute_logits(layers, X - self.mean_), axis=1))

    def _divide(self, given: Sample, X_valid: Any, y_valid: Any, rng: np.random.Generator) -> tuple[Sample, Sample]:
        """Rows to learn from, and rows to stop on."""
        X, columns = given
        if self.protocol == "paper":
            return given, (X[:0], columns[:0])
        if X_valid is not None:
            return given, self._check_validation(X_valid, y_valid)
        held_out = _hold_out(columns, rng)
        return (X[~held_out], columns[~held_out]), (X[held_out], columns[held_out])

    def _learn(self, train: Sample, valid: Sample, rng: np.random.Generator) -> None:
        transform, Z = self._transform(train[0])
        weights = weigh_classes("balanced" if self.balanced else None, self.classes_, train[1])
        rows = LabelledRows(Z, train[1], weights)
        stop_rows = LabelledRows(transform.project(valid[0]), valid[1], weights)
        hidden = self.hidden or (self.n_features_in_ if self.protocol == "paper" else HIDDEN)
        layers, epochs = initialise([Z.shape[1], hidden, len(self.classes_)], rng), self.epochs
        schedule = Schedule(self.learning_rate, self.batch_size, epochs, self.patience, self.weight_decay)
        if self.protocol == "paper":
            layers = descend(layers, rows, schedule, rng)
        else:
            layers, epochs = descend_early(layers, rows, stop_rows, schedule, rng)
        self.chosen_ = {"epochs": epochs, "hidden": hidden}
        self.mean_ = transform.mean.astype(np.float32)
        (hidden_coef, self.hidden_intercept_), (self.coef_, self.intercept_) = layers
        self.hidden_coef_ = transform.pull_back(hidden_coef).astype(np.float32)

    def _transform(self, X: Floats) -> tuple[Axes | Scaling, Floats]:
        """The affine map in front of the first layer, fitted on the rows to learn from, and what it makes of them."""
        rows = standardise(X)
        return rows.scaling, rows.values


def _hold_out(columns: Columns, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark `HELD_OUT` of the rows of each class, rounded; a class with few rows keeps them all."""
    marked = np.zeros(len(columns), dtype=bool)
    for column in np.unique(columns):
        members = rng.permutation(np.flatnonzero(columns == column))
        marked[members[: int(HELD_OUT * len(members) + 0.5)]] = True
    return marked
