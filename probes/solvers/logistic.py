"""The loss of the linear probe under protocol ``cv``: multinomial logistic regression with an L2 penalty.

Many of them on the same rows are fitted by one pass over these a step: all candidates of `C`, folds and subsets are
columns of one matrix product, which costs far less than as many thin ones. Rows come in blocks, so that neither the
logits of all problems nor the rows themselves have to fit into memory. Under protocol ``paper`` the loss is in
`probes.solvers.linear_kernel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probes.solvers.backend import array_library, to_numpy
from probes.solvers.lbfgs import Evaluation, minimise

Array = Any
Floats = NDArray[np.float32]

BLOCK_ROWS = 256
"""Rows in a block: their logits stay in the cache of a core until their gradient is formed."""


class Rows(Protocol):
    """Centred rows that come in blocks, again and again; their last column is one, for the intercept.

    Attributes:
        shape: Number of rows n, and of columns m.
        basis: float32 (w, k, m), for each weighting of the rows, with coefficients ``c @ basis[w]`` for `c` in
            coordinates that the penalty means, and where the rows are hardly correlated, so that the solver needs few
            steps. None where the columns are like that themselves, with k = m.
        variances: float32 (k,), mean square of the rows along each coordinate.
    """

    shape: tuple[int, int]
    basis: Array | None
    variances: Array

    def __iter__(self) -> Iterator[tuple[slice, Array]]:
        """Which rows a block holds, and the block, float32 (b, m)."""
        ...


class MemoryRows:
    """A matrix of uncorrelated columns as blocks of rows, on the device that computes.

    Args:
        values: float32 (n, d), centred; the column of ones is added.
    """

    basis: Array | None = None

    def __init__(self, values: Floats) -> None:
        ones = np.ones((len(values), 1), dtype=np.float32)
        xp = array_library()
        self._values = xp.asarray(np.hstack([values, ones]))
        self.shape: tuple[int, int] = self._values.shape
        self.variances = xp.einsum("nm,nm->m", self._values, self._values) / len(values)

    def take(self, chosen: NDArray[np.bool_]) -> MemoryRows:
        """Some of the rows, to be judged."""
        return MemoryRows(to_numpy(self._values[array_library().asarray(chosen), :-1]))

    def __iter__(self) -> Iterator[tuple[slice, Array]]:
        for start in range(0, self.shape[0], BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            yield rows, self._values[rows]


@dataclass(frozen=True)
class Problems:
    """Logistic regressions on the same rows: every weighting of the rows at every `C`.

    Problem ``w * len(Cs) + s`` minimises, as scikit-learn does with the weights of its samples::

        Cs[s] * sum(weights[w] * cross_entropy) + ||W||^2 / 2

    Attributes:
        targets: (n,) Class index of each row.
        n_classes: Number of classes.
        weights: float32 (w, n), not negative; 0 for rows outside a fold or a subset.
        Cs: `C` as of scikit-learn, above 0.
    """

    targets: NDArray[np.intp]
    n_classes: int
    weights: Floats
    Cs: Sequence[float] | NDArray[np.float64]


def solve(rows: Rows, problems: Problems, *, tol: float, start: Floats | None = None) -> Floats:
    """The minimiser of every problem.

    Args:
        rows: Rows (n, m).
        problems: What is fitted to them.
        tol: Largest norm of the gradient of the loss, which is the weighted mean over the rows plus the penalty.
        start: float32, shape of the result: where to begin; zeros for None.

    Returns:
        Coefficients in the coordinates of the rows and, last, intercepts; float32
        (len(weights), len(Cs), n_classes, k).

    Warns:
        ConvergenceWarning: See `probes.solvers.lbfgs.minimise`.
    """
    objective = LogisticObjective(rows, problems)
    shape = (len(problems.weights), len(problems.Cs), problems.n_classes, len(rows.variances))
    first = np.zeros(shape, dtype=np.float32) if start is None else start
    found = minimise(objective, objective.xp.asarray(first.reshape(shape[0] * shape[1], -1)), tol=tol)
    return to_numpy(found).reshape(shape)


def judge(rows: MemoryRows, coefficients: Floats, targets: NDArray[np.intp]) -> tuple[NDArray[np.intp], Floats]:
    """What several solutions say of rows.

    Args:
        rows: Rows (n, m).
        coefficients: float32 (s, n_classes, m), of some weighting; see `solve`.
        targets: (n,) Class index of each row.

    Returns:
        The most probable class of every row, and the cross-entropy of its own, float32; each (s, n).
    """
    xp = array_library()
    matrix, labels = xp.asarray(coefficients.reshape(-1, coefficients.shape[-1])), xp.asarray(targets)
    predicted, losses = [], []
    for where, block in rows:
        logits = (matrix @ block.T).reshape(*coefficients.shape[:2], -1)
        predicted.append(to_numpy(logits.argmax(axis=1)))
        logits -= logits.max(axis=1, keepdims=True)
        of_label = logits[:, labels[where], xp.arange(len(block))]
        losses.append(to_numpy(xp.log(xp.exp(logits).sum(axis=1)) - of_label))
    return np.concatenate(predicted, axis=-1), np.concatenate(losses, axis=-1)


class LogisticObjective:
    """The problems for `probes.solvers.lbfgs.minimise`; its points are rows of coefficients, class by class."""

    def __init__(self, rows: Rows, problems: Problems) -> None:
        self.xp = xp = array_library()
        self._rows, self._n_classes = rows, problems.n_classes
        self._targets = xp.asarray(problems.targets)
        totals = problems.weights.sum(axis=1, dtype=np.float64, keepdims=True)
        self._weights = xp.asarray(problems.weights / totals.astype(np.float32))
        self._weighting = xp.arange(len(totals)).repeat(len(problems.Cs))
        # Two classes are one sigmoid to scikit-learn, with half of the squared length of two opposite rows.
        ridge = (2 if problems.n_classes == 2 else 1) / (totals * np.asarray(problems.Cs))
        self._penalties = xp.asarray(ridge.astype(np.float32).reshape(-1, 1)).repeat(len(rows.variances), axis=1)
        self._penalties[:, -1] = 0  # the intercept is free

    def evaluate(self, points: Array, active: Array) -> Evaluation:
        """See `probes.solvers.lbfgs.Objective`, in one pass over the rows."""
        gradient = self._repeat(self._penalties[active]) * points
        loss = 0.5 * (gradient * points).sum(axis=1, dtype=np.float64)
        curvature = self.xp.zeros(len(points), dtype=np.float32)
        weighting = self._weighting[active]
        matrix = _to_columns(self._rows, points.reshape(len(points), self._n_classes, -1), weighting)
        slopes = self.xp.zeros_like(matrix)
        for where, block in self._rows:
            logits = (matrix @ block.T).reshape(len(points), self._n_classes, -1)
            weights = self._weights[:, where][weighting]
            block_loss, block_curvature = self._to_residuals(logits, self._targets[where], weights)
            loss += block_loss
            curvature += block_curvature
            slopes += logits.reshape(len(matrix), -1) @ block
        if self._rows.basis is not None:
            slopes = slopes.reshape(len(points), self._n_classes, -1) @ self._rows.basis[weighting].swapaxes(1, 2)
        return Evaluation(loss, gradient + slopes.reshape(gradient.shape), curvature)

    def precondition(self, vectors: Array, curvature: Array, active: Array) -> Array:
        """See `probes.solvers.lbfgs.Objective`: the Hessian of uncorrelated columns and of classes that are alike."""
        return vectors / self._repeat(curvature[:, None] * self._rows.variances + self._penalties[active])

    def _to_residuals(self, logits: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
        """Turn logits (p, n_classes, b) into weighted residuals in place.

        Returns:
            Loss and mean curvature of each problem, (p,): the trace of ``diag(q) - q q'``, `q` the probabilities of a
            row, over the ``n_classes - 1`` directions in which it is not zero.
        """
        xp = self.xp
        label = slice(None), targets, xp.arange(len(targets))
        logits -= logits.max(axis=1, keepdims=True)
        of_label = logits[label]
        xp.exp(logits, out=logits)
        totals = logits.sum(axis=1, keepdims=True)
        loss = (weights * (xp.log(totals[:, 0]) - of_label)).sum(axis=1, dtype=np.float64)
        logits /= totals
        doubt = 1 - xp.einsum("pcb,pcb->pb", logits, logits)
        logits[label] -= 1
        logits *= weights[:, None]
        return loss, (weights * doubt).sum(axis=1) / (self._n_classes - 1)

    def _repeat(self, values: Array) -> Array:
        """Values (p, k) repeated for each class, (p, n_classes * k)."""
        return self.xp.tile(values, self._n_classes)


def _to_columns(rows: Rows, coefficients: Array, weighting: Array) -> Array:
    """Coefficients (p, n_classes, k) of the coordinates of each weighting as (p * n_classes, m) of the columns."""
    columns = coefficients if rows.basis is None else coefficients @ rows.basis[weighting]
    return columns.reshape(-1, columns.shape[-1])
