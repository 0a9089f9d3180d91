"""Many smooth convex problems of one shape, minimised side by side by limited-memory BFGS.

After Nocedal & Wright (2006), *Numerical Optimization*, algorithm 7.4. Each problem takes its own steps, but every
round evaluates all of them at once: one pass over the data serves them all.
"""

from __future__ import annotations

import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from sklearn.exceptions import ConvergenceWarning

Array = Any
"""Array of NumPy or of CuPy."""

MEMORY = 10
"""Pairs of steps and changes of the gradient that stand for the Hessian."""

MAX_ROUNDS = 1_000
"""Evaluations after which what is left counts as not converged."""

ARMIJO = 1e-4
"""Share of the decrease promised by the slope that a step has to reach."""

ROUNDING = 1e-6
"""Relative error of a loss: a step is not refused for less."""

DROP_SHARE = 0.1
"""Converged problems are dropped as soon as they are this share of all; until then they go on improving."""


@dataclass(frozen=True)
class Evaluation:
    """p problems at one point each.

    Attributes:
        loss: float64 (p,).
        gradient: float32 (p, m).
        curvature: float32 (p,), what the preconditioner has to know about the point.
    """

    loss: Array
    gradient: Array
    curvature: Array


class Objective(Protocol):
    """Independent convex problems of m variables each.

    Attributes:
        xp: The array library, NumPy or CuPy.
    """

    xp: Any

    def evaluate(self, points: Array, active: Array) -> Evaluation:
        """Loss and gradient of the problems `active` (p,) at `points`, float32 (p, m)."""
        ...

    def precondition(self, vectors: Array, curvature: Array, active: Array) -> Array:
        """An approximate inverse of each Hessian times a vector, float32 (p, m)."""
        ...


def minimise(objective: Objective, start: Array, *, tol: float) -> Array:
    """The minimiser of every problem, float32 (p, m).

    The full quasi-Newton step is tried first; a step that does not lower the loss enough is cut where the secant of
    the slope has its zero. A problem is done when the Euclidean norm of its gradient is at most `tol`: then no entry is
    larger in any orthogonal coordinates.

    Args:
        objective: The problems.
        start: float32 (p, m), where each of them begins.
        tol: Largest norm of a gradient.

    Warns:
        ConvergenceWarning: Some problems are not done after `MAX_ROUNDS` evaluations.
    """
    solution = start.copy()
    search = _Search(objective, start)
    for _ in range(MAX_ROUNDS):
        done = _dot(search.now.gradient, search.now.gradient, objective.xp) <= tol**2
        solution[search.active] = search.points
        if done.all():
            return solution
        if done.mean() >= DROP_SHARE:
            search.keep(~done)
        search.step()
    warnings.warn(f"{int((~done).sum())} of {len(start)} fits did not converge", ConvergenceWarning, stacklevel=2)
    return solution


class _Search:
    """Where each problem that is left is, how far it dares to go, and what it remembers.

    Attributes:
        active: (p,) Numbers of the problems that are left.
        points: float32 (p, m).
        now: The problems at `points`.
    """

    def __init__(self, objective: Objective, start: Array) -> None:
        self._objective, self._xp = objective, objective.xp
        self.active = self._xp.arange(len(start))
        self.points = start
        self.now = objective.evaluate(start, self.active)
        self._length = self._xp.ones(len(start), dtype=self._xp.float32)
        self._pairs: deque[tuple[Array, Array, Array]] = deque(maxlen=MEMORY)

    def keep(self, kept: Array) -> None:
        """Drop all other problems."""
        self.active, self.points, self._length = self.active[kept], self.points[kept], self._length[kept]
        self.now = Evaluation(*(values[kept] for values in vars(self.now).values()))
        self._pairs = deque((tuple(part[kept] for part in pair) for pair in self._pairs), maxlen=MEMORY)

    def step(self) -> None:
        """Try a step of every problem; one whose loss it does not lower enough stays, and tries a shorter one next."""
        direction = self._aim()
        slope = _dot(self.now.gradient, direction, self._xp)
        moves = self._length[:, None] * direction
        new = self._objective.evaluate(self.points + moves, self.active)
        allowed = self.now.loss + ARMIJO * self._length * slope + ROUNDING * abs(self.now.loss)
        accepted = new.loss <= allowed
        new_slope = _dot(new.gradient, direction, self._xp)
        bend = self._xp.minimum(slope - new_slope, -1e-20)  # not zero at an exact minimum either
        cut = self._xp.clip(slope / bend, 0.1, 0.7)
        self._length = self._xp.where(accepted, 1, self._length * cut).astype(self._xp.float32)
        if not accepted.all():
            moves *= accepted[:, None]
            new = self._undo(new, accepted)
        self._remember(moves, new.gradient - self.now.gradient)
        self.points, self.now = self.points + moves, new

    def _aim(self) -> Array:
        """The quasi-Newton direction of every problem, by the two-loop recursion."""
        direction, shares = -self.now.gradient, []
        for move, change, inverse in reversed(self._pairs):
            shares.append(inverse * _dot(move, direction, self._xp))
            direction -= shares[-1][:, None] * change
        direction = self._scale()[:, None] * self._precondition(direction)
        for (move, change, inverse), share in zip(self._pairs, reversed(shares), strict=True):
            direction += (share - inverse * _dot(change, direction, self._xp))[:, None] * move
        return direction

    def _precondition(self, vectors: Array) -> Array:
        return self._objective.precondition(vectors, self.now.curvature, self.active)

    def _scale(self) -> Array:
        """What the preconditioner has to be multiplied by to fit the last step, float32 (p,); equation 7.20."""
        if not self._pairs:
            return self._xp.ones(len(self.active), dtype=self._xp.float32)
        _, change, inverse = self._pairs[-1]
        fit = inverse * _dot(change, self._precondition(change), self._xp)
        return 1 / self._xp.where(fit > 0, fit, 1)

    def _remember(self, moves: Array, changes: Array) -> None:
        """Keep a pair; one without positive curvature, as of a problem that stayed, counts for nothing."""
        products = _dot(moves, changes, self._xp)
        positive = products > 0
        self._pairs.append((moves, changes, positive / self._xp.where(positive, products, 1)))

    def _undo(self, new: Evaluation, accepted: Array) -> Evaluation:
        """The new evaluation where a step was accepted, the one before elsewhere."""
        pairs = zip(vars(new).values(), vars(self.now).values(), strict=True)
        shape = accepted.reshape
        return Evaluation(*(self._xp.where(shape((-1,) + (1,) * (a.ndim - 1)), a, b) for a, b in pairs))


def _dot(left: Array, right: Array, xp: Any) -> Array:
    """Inner product of each pair of rows, float32 (p,)."""
    return xp.matmul(left[:, None, :], right[:, :, None])[:, 0, 0]
