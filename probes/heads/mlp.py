"""The MLP probe: two fully connected layers, by AdamW with early stopping or by the study's SGD."""

from __future__ import annotations

from functools import partialmethod
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import softmax

from probes.heads.base import Floats, Probe, weigh_classes
from probes.heads.folds import hold_out
from probes.heads.whitening import Kind, Shrinkage, Whitening
from probes.solvers.factorisation import Axes
from probes.solvers.network import ClassIndex, compute_logits, initialise
from probes.solvers.optimisers import LabelledRows, Schedule, descend, descend_early
from probes.solvers.scaling import Scaling, standardise

Sample = tuple[Floats, ClassIndex]

HIDDEN = 256
"""Hidden units under ``cv`` unless asked otherwise: enough for some thousand rows, and quick on a CPU."""

HELD_OUT = 0.15
"""Share of the training rows to stop on when no validation rows are given."""


class MLPProbe(Probe):
    """Two fully connected layers with a ReLU between, on features that are standardised, or whitened, on training rows.

    Protocol ``cv``: AdamW, stopped when the macro-F1 of the validation rows no longer rises; the best epoch is kept.
    Without validation rows a stratified 15 % of the training rows, whole groups of them, is held out for that and not
    learnt from; a class of up to three rows gives none. Standardisation and whitening are fitted on the rows to learn
    from: never on those that are held out or given to stop on.

    Protocol ``paper``: SGD without momentum, as in Lastufka et al. (2025); the last epoch is kept.

    Args:
        protocol: ``cv`` or ``paper``.
        random_state: Seed of the held-out rows, the initial weights and the order of the batches.
        hidden: Hidden units; for None the width of the features (``paper``), or 256 (``cv``).
        balanced: Whether classes weigh the same in the loss, by weights inversely proportional to the training counts;
            else rows do. There is no ``class_weight``: stopping on macro-F1 would undo weights of one's own.
        epochs: Passes over the training rows; under ``cv`` at most.
        learning_rate: Step size.
        batch_size: Rows in a step.
        patience: Epochs without a better validation score after which it stops (``cv``).
        weight_decay: Decoupled weight decay (``cv``).
        whitening: None for standardised features, ``pca`` or ``zca``; see `Whitening`.
        shrinkage: See `Whitening`.
        rank: See `Whitening`.

    Attributes:
        classes_: Sorted labels.
        mean_: float32 (d,), mean of the training rows.
        hidden_coef_: float32 (hidden, d), for centred features: standardisation or whitening is folded into it.
        hidden_intercept_: float32 (hidden,).
        coef_: float32 (n_classes, hidden).
        intercept_: float32 (n_classes,).
        chosen_: ``epochs`` (``cv``: the best one, counted from 1), ``hidden`` and ``held_out``, the rows of `X` that it
            stopped on; ``shrinkage`` and ``rank`` of the whitening.
        whitening_: The whitening, where there is one; prediction does not need it.
    """

    uses_validation: ClassVar[bool] = True
    uses_groups: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("mean_", "hidden_coef_", "hidden_intercept_", "coef_", "intercept_")

    mean_: Floats
    hidden_coef_: Floats
    hidden_intercept_: Floats
    coef_: Floats
    intercept_: Floats
    whitening_: Whitening

    def __init__(
        self,
        protocol: str = "cv",
        random_state: int | None = 0,
        hidden: int | None = None,
        balanced: bool = True,
        epochs: int = 100,
        learning_rate: float = 5e-4,
        batch_size: int = 64,
        patience: int = 10,
        weight_decay: float = 0.01,
        whitening: Kind | None = None,
        shrinkage: Shrinkage = "ledoit_wolf",
        rank: int | None = None,
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
        self.whitening = whitening
        self.shrinkage = shrinkage
        self.rank = rank

    def fit(self, X: Any, y: Any, X_valid: Any = None, y_valid: Any = None, groups: Any = None) -> Self:
        """Fit on features (n, d) and labels (n,).

        Args:
            X: Features of the training rows.
            y: Labels of the training rows.
            X_valid: Features of rows to stop on (``cv``); ``paper`` does not look at them.
            y_valid: Labels of these rows, each of which occurs in `y`.
            groups: (n,) Group of each training row; no group is held out in part. None: every row for itself.

        Raises:
            ValueError: Bad values or shapes, fewer than two classes, or an unknown protocol.
        """
        self._check_protocol(self.protocol)
        X, targets = self._check_training(X, y)
        units, rng = self._check_groups(groups, len(X)), np.random.default_rng(self.random_state)
        if self.protocol == "paper":
            train, valid = (X, targets), (X[:0], targets[:0])
        elif X_valid is not None:
            train, valid = (X, targets), self._check_validation(X_valid, y_valid)
        else:
            held = hold_out(targets, HELD_OUT, rng, units)
            train, valid = (X[~held], targets[~held]), (X[held], targets[held])
        self._learn(train, valid, rng)
        self.chosen_["held_out"] = len(X) - len(train[0])
        if self.whitening is not None:
            self.chosen_ |= {"shrinkage": self.whitening_.shrinkage_, "rank": self.whitening_.rank_}
        return self

    def _probabilities(self, X: Floats) -> Floats:
        layers = [(self.hidden_coef_, self.hidden_intercept_), (self.coef_, self.intercept_)]
        return np.asarray(softmax(compute_logits(layers, X - self.mean_), axis=1))

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
        self.hidden_coef_ = transform.to_input_space(hidden_coef).astype(np.float32)

    def _transform(self, X: Floats) -> tuple[Axes | Scaling, Floats]:
        """The affine map in front of the first layer, fitted on the rows to learn from, and what it makes of them."""
        if self.whitening is not None:
            self.whitening_ = Whitening(self.whitening, self.shrinkage, self.rank).fit(X)
            axes = self.whitening_.axes
            return axes, axes.project(X)
        rows = standardise(X)
        return rows.scaling, rows.values


class WhitenedMLPProbe(MLPProbe):
    """`MLPProbe` on whitened features: its parameter `whitening` is ``pca`` unless asked otherwise."""

    __init__ = partialmethod(MLPProbe.__init__, whitening="pca")
