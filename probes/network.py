"""Fully connected ReLU networks in float32: initial weights, logits and gradients, arrays in and arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

Floats = NDArray[np.float32]
Columns = NDArray[np.intp]
Layer = tuple[Floats, Floats]
"""Weights (n_out, n_in) and biases (n_out,)."""

Layers = list[Layer]
"""From input to output."""


def initialise(widths: Sequence[int], rng: np.random.Generator) -> Layers:
    """Weights and biases uniform in ``+-1 / sqrt(n_in)``, as of ``torch.nn.Linear``.

    Args:
        widths: Width of the input, of each hidden layer, and of the output.
        rng: Generator; the weights of a layer are drawn before its biases.
    """
    layers = []
    for n_in, n_out in pairwise(widths):
        bound = n_in**-0.5
        weights = rng.uniform(-bound, bound, size=(n_out, n_in)).astype(np.float32)
        layers.append((weights, rng.uniform(-bound, bound, size=n_out).astype(np.float32)))
    return layers


def compute_logits(layers: Layers, X: Floats) -> Floats:
    """Logits (n, n_classes) of the rows (n, d)."""
    return _activations(layers, X)[-1]


def compute_gradients(layers: Layers, X: Floats, columns: Columns, class_weights: Floats) -> Layers:
    """Gradients of the weighted mean cross-entropy by back-propagation, in the shape of the layers.

    The mean is the sum of ``weight * -log p`` over the sum of the weights of these rows, as of PyTorch's
    ``CrossEntropyLoss(weight)``.

    Args:
        layers: Weights and biases.
        X: float32 (n, d).
        columns: (n,) Column of the label of each row.
        class_weights: float32 (n_classes,).
    """
    activations = _activations(layers, X)
    weights = class_weights[columns]
    delta = softmax(activations.pop(), axis=1)
    delta[np.arange(len(X)), columns] -= 1
    delta *= (weights / weights.sum())[:, None]
    gradients: Layers = []
    for (matrix, _), below in zip(reversed(layers), reversed(activations), strict=True):
        gradients.append((delta.T @ below, delta.sum(axis=0)))
        if below is not X:
            delta = (delta @ matrix) * (below > 0)
    return gradients[::-1]


def _activations(layers: Layers, X: Floats) -> list[Floats]:
    """The input, the output of each hidden layer, and the logits."""
    activations = [X]
    for number, (weights, biases) in enumerate(layers, start=1):
        output = activations[-1] @ weights.T
        output += biases
        if number < len(layers):
            np.maximum(output, 0, out=output)
        activations.append(output)
    return activations
