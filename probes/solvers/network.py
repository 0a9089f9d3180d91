"""Fully connected ReLU networks in float32: initial weights and logits, arrays in and arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
ClassIndex = NDArray[np.intp]
Layer = tuple[Floats, Floats]
"""Weights (n_out, n_in) and biases (n_out,)."""

Layers = list[Layer]
"""From input to output."""


def initialise(widths: Sequence[int], rng: np.random.Generator) -> Layers:
    """Weights and biases uniform in ``+-1 / sqrt(n_in)``, as in ``torch.nn.Linear``.

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
    *hidden, last = layers
    for weights, biases in hidden:
        X = X @ weights.T
        X += biases
        np.maximum(X, 0, out=X)
    weights, biases = last
    return X @ weights.T + biases
