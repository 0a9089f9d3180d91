"""The loss of the linear probe under protocol ``paper``: an epoch of plain SGD as one loop without temporary matrices.

A matrix product for so few classes would mostly wait for memory: here a row that has been loaded serves all classes.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from probes.solvers.compilation import FUSED, compiled, prefetch
from probes.solvers.network import ClassIndex, Floats

LANES = 4
"""Rows that are scored, or subtracted, in one pass over the features."""

LINE = 16
"""Numbers in a cache line."""


@compiled
def run_epoch(
    weights: Floats,
    biases: Floats,
    X: Floats,
    targets: ClassIndex,
    class_weights: Floats,
    order: ClassIndex,
    rate: np.float32,
    batch_size: int,
) -> None:
    """Take a step for each batch of `order`, in place.

    The updates are those of ``torch.optim.SGD`` on ``CrossEntropyLoss(weight=class_weights)``. All arrays are
    C-contiguous.

    Args:
        weights: float32 (n_classes, d), updated.
        biases: float32 (n_classes,), updated.
        X: float32 (n, d).
        targets: intp (n,), class index of each row.
        class_weights: float32 (n_classes,).
        order: intp (m,), rows of `X` to learn from, batch after batch.
        rate: Step size.
        batch_size: Rows in a step; the last one may have fewer.
    """
    delta = np.empty((len(biases), batch_size + LANES - 1), np.float32)
    rows = np.empty(batch_size + LANES - 1, np.intp)
    for start in range(0, len(order), batch_size):
        n = min(batch_size, len(order) - start)
        rows[:n] = order[start : start + n]
        rows[n:] = rows[n - 1]  # the last lanes may reach past the batch
        _score(weights, X, rows, n, delta)
        _differentiate(biases, targets, class_weights, rows[:n], rate, delta)
        delta[:, n:] = 0
        _subtract(weights, X, rows, n, delta, order[start + n : start + n + batch_size])


@compiled
def _score(weights: Floats, X: Floats, rows: ClassIndex, n: int, delta: Floats) -> None:
    """Write ``weights @ X[rows].T`` to `delta`, in tiles of four rows and two classes."""
    last = len(weights) - 1
    for i in range(0, n, LANES):
        x0, x1, x2, x3 = X[rows[i]], X[rows[i + 1]], X[rows[i + 2]], X[rows[i + 3]]
        for c in range(0, last + 1, 2):
            e = min(c + 1, last)
            u, v = weights[c], weights[e]
            u0 = u1 = u2 = u3 = v0 = v1 = v2 = v3 = np.float32(0)
            for k in range(len(u)):
                u0 += u[k] * x0[k]
                u1 += u[k] * x1[k]
                u2 += u[k] * x2[k]
                u3 += u[k] * x3[k]
                v0 += v[k] * x0[k]
                v1 += v[k] * x1[k]
                v2 += v[k] * x2[k]
                v3 += v[k] * x3[k]
            delta[c, i], delta[c, i + 1], delta[c, i + 2], delta[c, i + 3] = u0, u1, u2, u3
            delta[e, i], delta[e, i + 1], delta[e, i + 2], delta[e, i + 3] = v0, v1, v2, v3


@compiled
def _differentiate(
    biases: Floats, targets: ClassIndex, class_weights: Floats, batch: ClassIndex, rate: np.float32, delta: Floats
) -> None:
    """Turn scores into `rate` times the gradient of the loss by the logits, and take the step of the biases.

    The inner loops run over the rows, which fill the vector registers; classes would be too few.
    """
    n = len(batch)
    odds, shares = _exponentiate(biases, n, delta), np.empty(n, np.float32)
    total = np.float32(0)
    for i in range(n):
        shares[i] = class_weights[targets[batch[i]]]
        total += shares[i]
    for i in range(n):
        shares[i] *= rate / total
        odds[i] = shares[i] / odds[i]
    for c in range(len(biases)):
        slopes = delta[c]
        for i in range(n):
            slopes[i] *= odds[i]
    for i in range(n):
        delta[targets[batch[i]], i] -= shares[i]
    for c in range(len(biases)):
        biases[c] -= delta[c, :n].sum()


@compiled
def _exponentiate(biases: Floats, n: int, delta: Floats) -> Floats:
    """Turn scores into exponentials, those of a row up to a common factor; returns their sums, (n,)."""
    highest, odds = np.full(n, -np.inf, np.float32), np.zeros(n, np.float32)
    for c in range(len(biases)):
        logits, bias = delta[c], biases[c]
        for i in range(n):
            logits[i] += bias
            highest[i] = max(highest[i], logits[i])
    for c in range(len(biases)):
        logits = delta[c]
        for i in range(n):
            logits[i] = np.exp(logits[i] - highest[i])
        for i in range(n):
            odds[i] += logits[i]
    return odds


@partial(compiled, fastmath=FUSED)  # reordered, these chains of four would no longer be four instructions
def _subtract(weights: Floats, X: Floats, rows: ClassIndex, n: int, delta: Floats, following: ClassIndex) -> None:
    """Subtract ``delta @ X[rows]`` from the weights, in tiles as `_score`.

    The rows of the batch that follows are fetched meanwhile.
    """
    last = len(weights) - 1
    for i in range(0, n, LANES):
        x0, x1, x2, x3 = X[rows[i]], X[rows[i + 1]], X[rows[i + 2]], X[rows[i + 3]]
        for lane in range(i, min(i + LANES, len(following))):
            for k in range(0, X.shape[1], LINE):
                prefetch(X, following[lane], k)
        for c in range(0, last, 2):
            u, v = weights[c], weights[c + 1]
            s0, s1, s2, s3 = delta[c, i], delta[c, i + 1], delta[c, i + 2], delta[c, i + 3]
            t0, t1, t2, t3 = delta[c + 1, i], delta[c + 1, i + 1], delta[c + 1, i + 2], delta[c + 1, i + 3]
            for k in range(len(u)):  # all is read before it is written, or the rows would be read again
                a, b, p, q, r, s = u[k], v[k], x0[k], x1[k], x2[k], x3[k]
                u[k] = a - s0 * p - s1 * q - s2 * r - s3 * s
                v[k] = b - t0 * p - t1 * q - t2 * r - t3 * s
        if last % 2 == 0:
            w = weights[last]
            s0, s1, s2, s3 = delta[last, i], delta[last, i + 1], delta[last, i + 2], delta[last, i + 3]
            for k in range(len(w)):
                w[k] = w[k] - s0 * x0[k] - s1 * x1[k] - s2 * x2[k] - s3 * x3[k]
