"""Epochs of a ReLU network by plain SGD and by AdamW: matrix products by BLAS, all else in single passes.

Within a batch a sample is a column: BLAS is faster by a quarter at ``weights @ X.T`` than at ``X @ weights.T``.
"""

from __future__ import annotations

import numpy as np

from probes.solvers.compilation import compiled
from probes.solvers.network import ClassIndex, Floats, Layer

Stack = tuple[Layer, ...]
"""Layers from input to output, or arrays of their shapes; float32 and C-contiguous."""

MEAN_SHARE, SQUARE_SHARE = np.float32(0.1), np.float32(0.001)
"""Weight of a new gradient in the moments of AdamW: the customary decay rates are 0.9 and 0.999."""

EPSILON = np.float32(1e-8)


@compiled
def run_sgd_epoch(
    layers: Stack,
    gradients: Stack,
    X: Floats,
    targets: ClassIndex,
    class_weights: Floats,
    order: ClassIndex,
    rate: np.float32,
    batch_size: int,
) -> None:
    """Take a step of SGD without momentum for each batch of `order`, in place.

    Args:
        layers: Updated.
        gradients: Scratch space.
        X: float32 (n, d).
        targets: intp (n,), class index of each row.
        class_weights: float32 (n_classes,).
        order: intp (m,), rows of `X` to learn from, batch after batch.
        rate: Step size.
        batch_size: Rows in a step; the last one may have fewer.
    """
    for start in range(0, len(order), batch_size):
        differentiate(layers, gradients, X, targets, class_weights, order[start : start + batch_size])
        for number in range(len(layers)):
            (weights, biases), (slopes, offsets) = layers[number], gradients[number]
            _descend(weights.ravel(), slopes.ravel(), rate)
            _descend(biases, offsets, rate)


@compiled
def run_adamw_epoch(
    layers: Stack,
    gradients: Stack,
    means: Stack,
    squares: Stack,
    n_steps: int,
    X: Floats,
    targets: ClassIndex,
    class_weights: Floats,
    order: ClassIndex,
    rate: float,
    weight_decay: float,
    batch_size: int,
) -> int:
    """Take a step of AdamW (Loshchilov & Hutter 2019) for each batch of `order`, in place.

    Args:
        layers: Updated.
        gradients: Scratch space.
        means: Running means of the gradients, updated; zeros before the first step.
        squares: Running means of their squares, updated; zeros before the first step.
        n_steps: Steps taken before.
        X: See `run_sgd_epoch`, and so the others.
        targets: Class index of each row.
        class_weights: Weights of the classes.
        order: Rows to learn from.
        rate: Step size.
        weight_decay: Decoupled weight decay.
        batch_size: Rows in a step.

    Returns:
        Steps taken up to now.
    """
    decay = np.float32(1 - rate * weight_decay)
    for start in range(0, len(order), batch_size):
        differentiate(layers, gradients, X, targets, class_weights, order[start : start + batch_size])
        n_steps += 1
        step = np.float32(rate / (1 - 0.9**n_steps))
        correction = np.float32((1 - 0.999**n_steps) ** -0.5)
        for number in range(len(layers)):
            (weights, biases), (slopes, offsets) = layers[number], gradients[number]
            (w_mean, b_mean), (w_square, b_square) = means[number], squares[number]
            _adapt(weights.ravel(), slopes.ravel(), w_mean.ravel(), w_square.ravel(), decay, step, correction)
            _adapt(biases, offsets, b_mean, b_square, decay, step, correction)
    return n_steps


@compiled
def differentiate(
    layers: Stack, gradients: Stack, X: Floats, targets: ClassIndex, class_weights: Floats, batch: ClassIndex
) -> None:
    """Write the gradients of the weighted mean cross-entropy of some rows, by back-propagation.

    The mean is the sum of ``weight * -log p`` over the sum of the weights of these rows, as of PyTorch's
    ``CrossEntropyLoss(weight)``.

    Args:
        layers: Weights and biases.
        gradients: Of the shapes of the layers, overwritten.
        X: float32 (n, d).
        targets: intp (n,), class index of each row.
        class_weights: float32 (n_classes,).
        batch: intp (m,), the rows.
    """
    inputs = _gather(X, batch)
    hidden = _activate(layers, inputs)
    delta = _differentiate_loss(hidden[-1], targets[batch], class_weights)
    for number in range(len(layers) - 1, -1, -1):
        slopes, offsets = gradients[number]
        for row in range(len(delta)):
            offsets[row] = delta[row].sum()
        if number == 0:
            np.dot(delta, inputs, slopes)
        else:
            below = hidden[number - 1]
            np.dot(delta, below.T, slopes)
            delta = np.dot(layers[number][0].T, delta)
            _stop(delta, below)


@compiled
def _gather(X: Floats, batch: ClassIndex) -> Floats:
    rows = np.empty((len(batch), X.shape[1]), np.float32)
    for i, row in enumerate(batch):
        rows[i] = X[row]
    return rows


@compiled
def _activate(layers: Stack, inputs: Floats) -> list[Floats]:
    """Outputs of the layers, (n_out, n) each: those of hidden layers after the ReLU, then the logits."""
    outputs = [np.dot(layers[0][0], inputs.T)]
    for number in range(len(layers)):
        weights, biases = layers[number]
        if number > 0:
            outputs.append(np.dot(weights, outputs[-1]))
        output = outputs[number]
        floor = np.float32(-np.inf if number == len(layers) - 1 else 0)
        for row in range(len(output)):
            output[row] = np.maximum(output[row] + biases[row], floor)
    return outputs


@compiled
def _differentiate_loss(logits: Floats, targets: ClassIndex, class_weights: Floats) -> Floats:
    """Gradient of the loss by the logits (n_classes, n)."""
    delta = np.empty_like(logits)
    shares = class_weights[targets] / class_weights[targets].sum()
    for i, target in enumerate(targets):
        odds = np.exp(logits[:, i] - logits[:, i].max())
        delta[:, i] = odds * (shares[i] / odds.sum())
        delta[target, i] -= shares[i]
    return delta


@compiled
def _stop(delta: Floats, below: Floats) -> None:
    """No gradient passes a unit that is at rest."""
    for row in range(len(delta)):
        for i in range(delta.shape[1]):
            delta[row, i] = delta[row, i] if below[row, i] > 0 else np.float32(0)


@compiled
def _descend(values: Floats, slopes: Floats, rate: np.float32) -> None:
    """One step of SGD for one array; flat arrays, because numba does not vectorise over two axes."""
    for i in range(len(values)):
        values[i] -= rate * slopes[i]


@compiled
def _adapt(
    values: Floats,
    slopes: Floats,
    mean: Floats,
    square: Floats,
    decay: np.float32,
    step: np.float32,
    correction: np.float32,
) -> None:
    """One step of AdamW for one flat array, in one pass."""
    for i in range(len(values)):
        mean[i] += MEAN_SHARE * (slopes[i] - mean[i])
        square[i] += SQUARE_SHARE * (slopes[i] * slopes[i] - square[i])
        values[i] = decay * values[i] - step * mean[i] / (np.sqrt(square[i]) * correction + EPSILON)
