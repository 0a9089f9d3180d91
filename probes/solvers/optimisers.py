"""Optimisers of networks: plain SGD as in the study, and AdamW with early stopping. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import f1_score

from probes.solvers.network import ClassIndex, Floats, Layer, Layers, compute_logits
from probes.solvers.scaling import align, is_aligned


@dataclass(frozen=True)
class LabelledRows:
    """Rows to learn from or to stop on.

    Attributes:
        X: float32 (n, d), standardised features.
        targets: (n,) class index of each row.
        class_weights: float32 (n_classes,).
    """

    X: Floats
    targets: ClassIndex
    class_weights: Floats

    def __len__(self) -> int:
        return len(self.X)

    @property
    def arrays(self) -> tuple[Floats, ClassIndex, Floats]:
        """The three attributes as the kernels need them."""
        return (self.X if is_aligned(self.X) else align(self.X)), self.targets, self.class_weights

    def macro_f1(self, layers: Layers) -> float:
        """Macro-F1 of the predictions for all rows."""
        return float(f1_score(self.targets, compute_logits(layers, self.X).argmax(axis=1), average="macro"))


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Attributes:
        learning_rate: Step size.
        batch_size: LabelledRows in a step; the last batch of an epoch may be smaller.
        epochs: Passes over the rows, at most.
        patience: Passes without a better validation score after which AdamW stops.
        weight_decay: Decoupled weight decay of AdamW.
    """

    learning_rate: float
    batch_size: int
    epochs: int
    patience: int = 10
    weight_decay: float = 0.01


def descend(layers: Layers, rows: LabelledRows, schedule: Schedule, rng: np.random.Generator) -> Layers:
    """Plain stochastic gradient descent without momentum; the last epoch is kept.

    The updates are those of ``torch.optim.SGD`` on ``CrossEntropyLoss(weight=class_weights)``.

    Args:
        layers: Initial weights; left as they are.
        rows: Training rows.
        schedule: Step size, batch size and epochs.
        rng: Draws one permutation of the rows for each epoch.
    """
    from probes.solvers import linear_kernel, network_kernel

    layers, scratch = _copy(layers), _zeros(layers)
    X, targets, class_weights = rows.arrays
    rate, batch_size = np.float32(schedule.learning_rate), schedule.batch_size
    for _ in range(schedule.epochs):
        order = rng.permutation(len(rows))
        if len(layers) == 1:
            weights, biases = layers[0]
            linear_kernel.run_epoch(weights, biases, X, targets, class_weights, order, rate, batch_size)
        else:
            network_kernel.run_sgd_epoch(tuple(layers), scratch, X, targets, class_weights, order, rate, batch_size)
    return layers


def descend_early(
    layers: Layers, rows: LabelledRows, valid: LabelledRows, schedule: Schedule, rng: np.random.Generator
) -> tuple[Layers, int]:
    """AdamW (Loshchilov & Hutter 2019), stopped early; the epoch with the best macro-F1 on validation rows is kept.

    Of equal epochs the first is kept. Without validation rows every epoch is run and the last one is kept.

    Args:
        layers: Initial weights; left as they are.
        rows: Training rows.
        valid: Rows to stop on; may be empty.
        schedule: Step size, batch size, most epochs, patience and weight decay.
        rng: Draws one permutation of the rows for each epoch.

    Returns:
        The layers, and the epoch that they are of, counted from 1.
    """
    from probes.solvers.network_kernel import run_adamw_epoch  # numba is heavy

    current = tuple(_copy(layers))
    scratch, means, squares = (_zeros(layers) for _ in range(3))
    data, pace = rows.arrays, (schedule.learning_rate, schedule.weight_decay, schedule.batch_size)
    best, best_epoch, best_score, n_steps = layers, 0, -np.inf, 0
    for epoch in range(1, schedule.epochs + 1):
        order = rng.permutation(len(rows))
        n_steps = run_adamw_epoch(current, scratch, means, squares, n_steps, *data, order, *pace)
        score = valid.macro_f1(list(current)) if len(valid) else float(epoch)
        if score > best_score:
            best, best_epoch, best_score = _copy(current), epoch, score
        elif epoch - best_epoch >= schedule.patience:
            break
    return best, best_epoch


def _copy(layers: Iterable[Layer]) -> Layers:
    return [(align(weights), biases.copy()) for weights, biases in layers]


def _zeros(layers: Layers) -> tuple[Layer, ...]:
    return tuple((np.zeros_like(weights), np.zeros_like(biases)) for weights, biases in layers)
