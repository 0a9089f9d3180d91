"""Optimisers of networks: plain SGD as in the study, and AdamW with early stopping. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import f1_score

from probes.network import Columns, Floats, Layers, compute_gradients, compute_logits


@dataclass(frozen=True)
class LabelledRows:
    """Rows to learn from or to stop on.

    Attributes:
        X: float32 (n, d), standardised features.
        columns: (n,) Column of the label of each row.
        class_weights: float32 (n_classes,).
    """

    X: Floats
    columns: Columns
    class_weights: Floats

    def __len__(self) -> int:
        return len(self.X)

    def macro_f1(self, layers: Layers) -> float:
        """Macro-F1 of the predictions for all rows."""
        return float(f1_score(self.columns, compute_logits(layers, self.X).argmax(axis=1), average="macro"))

    def gradients(self, layers: Layers, batch: Columns) -> Layers:
        """Gradients of the weighted cross-entropy of some rows."""
        return compute_gradients(layers, self.X[batch], self.columns[batch], self.class_weights)


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
    layers = _copy(layers)
    rate = np.float32(schedule.learning_rate)
    for _ in range(schedule.epochs):
        for batch in _shuffle(len(rows), schedule.batch_size, rng):
            for layer, gradient in zip(layers, rows.gradients(layers, batch), strict=True):
                for values, slope in zip(layer, gradient, strict=True):
                    np.subtract(values, rate * slope, out=values)
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
    optimiser = _AdamW(_copy(layers), schedule)
    best, best_epoch, best_score = layers, 0, -np.inf
    for epoch in range(1, schedule.epochs + 1):
        for batch in _shuffle(len(rows), schedule.batch_size, rng):
            optimiser.step(rows.gradients(optimiser.layers, batch))
        score = valid.macro_f1(optimiser.layers) if len(valid) else float(epoch)
        if score > best_score:
            best, best_epoch, best_score = _copy(optimiser.layers), epoch, score
        elif epoch - best_epoch >= schedule.patience:
            break
    return best, best_epoch


class _AdamW:
    """The moments and the update of AdamW with the customary decay rates 0.9 and 0.999."""

    def __init__(self, layers: Layers, schedule: Schedule) -> None:
        self.layers = layers
        self._rate, self._decay = schedule.learning_rate, schedule.weight_decay
        self._values = [values for layer in layers for values in layer]
        self._moments = [(np.zeros_like(values), np.zeros_like(values)) for values in self._values]
        self._n_steps = 0

    def step(self, gradients: Layers) -> None:
        """Update the layers in place; the gradients are used up as scratch space."""
        self._n_steps += 1
        slopes = [slope for layer in gradients for slope in layer]
        for values, slope, moments in zip(self._values, slopes, self._moments, strict=True):
            self._update(values, slope, *moments)

    def _update(self, values: Floats, slope: Floats, mean: Floats, square: Floats) -> None:
        mean += np.float32(0.1) * (slope - mean)
        np.square(slope, out=slope)
        square += np.float32(0.001) * (slope - square)
        np.sqrt(square, out=slope)
        slope *= np.float32((1 - 0.999**self._n_steps) ** -0.5)
        slope += np.float32(1e-8)
        np.divide(mean, slope, out=slope)
        slope *= np.float32(self._rate / (1 - 0.9**self._n_steps))
        values *= np.float32(1 - self._rate * self._decay)
        values -= slope


def _shuffle(n_rows: int, batch_size: int, rng: np.random.Generator) -> Iterator[Columns]:
    order = rng.permutation(n_rows)
    for start in range(0, n_rows, batch_size):
        yield order[start : start + batch_size]


def _copy(layers: Layers) -> Layers:
    return [(weights.copy(), biases.copy()) for weights, biases in layers]
