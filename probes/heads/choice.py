"""The steady choice of one among several candidates, by what they score and lose on held-out rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.heads.folds import Mask
from probes.solvers.scaling import Doubles, Floats

MARGIN, CONTENDING = 0.5, 1.5
"""Standard errors below the best score within which the loss decides, and within which a candidate may yet win."""

ROUNDING = 1e-12
"""Mean scores that differ by less are equal."""

Numbers = NDArray[np.intp]


@dataclass(frozen=True)
class Trial:
    """Candidates on the same folds.

    Attributes:
        numbers: (k,) Which candidates, ascending.
        scores: (n_folds, k).
        losses: (k,), of all held-out rows.
        starts: float32 (k, ...), mean of what was fitted without the folds of the last draw.
    """

    numbers: Numbers
    scores: Doubles
    losses: Doubles
    starts: Floats

    def take(self, chosen: Mask | Numbers) -> Trial:
        """Some of the candidates."""
        return Trial(self.numbers[chosen], self.scores[:, chosen], self.losses[chosen], self.starts[chosen])

    def beside(self, more: Trial) -> Trial:
        """With other candidates on the same folds."""
        numbers = np.concatenate([self.numbers, more.numbers])
        losses, starts = np.concatenate([self.losses, more.losses]), np.concatenate([self.starts, more.starts])
        return Trial(numbers, np.hstack([self.scores, more.scores]), losses, starts).take(np.argsort(numbers))

    def then(self, more: Trial) -> Trial:
        """With the same candidates on other folds."""
        return Trial(self.numbers, np.vstack([self.scores, more.scores]), self.losses + more.losses, more.starts)

    def contenders(self) -> Trial:
        """The candidates that may yet win."""
        return self.take(find_near(self.scores, CONTENDING))


Try = Callable[[Numbers], Trial]


def try_coarsely(attempt: Try, n_candidates: int) -> Trial:
    """Every other one of candidates in their order, then those beside the ones that may win."""
    first = attempt(np.arange(0, n_candidates, 2))
    near = first.contenders().numbers
    beside = np.setdiff1d(np.concatenate([near - 1, near + 1]), [*first.numbers, -1, n_candidates])
    return first.beside(attempt(beside)) if len(beside) else first


def choose_steadily(scores: Doubles, losses: Doubles | None) -> int:
    """The candidate of the smallest held-out loss among those whose score is as good as the best, within `MARGIN`.

    Scores of a few rows jump by whole predictions, and the best of them flips with the draw of the folds. The loss is
    smooth, but its minimum is not quite that of the score. So the score decides as far as it can tell.

    Args:
        scores: (n_folds, n_candidates), two folds or more.
        losses: (n_candidates,), of all held-out rows. Of equal losses the first candidate wins. None where what was
            fitted has seen the held-out rows, which makes losses too small: the first as good as the best wins.
    """
    near = find_near(scores, MARGIN)
    return int(near.argmax() if losses is None else np.where(near, losses, np.inf).argmin())


def find_near(scores: Doubles, errors: float) -> Mask:
    """Candidates whose mean score is at most so many standard errors below the best: of paired differences by fold."""
    gaps = scores[:, [scores.mean(axis=0).argmax()]] - scores
    error = gaps.std(axis=0, ddof=1) / np.sqrt(len(scores))
    return np.asarray(gaps.mean(axis=0) <= errors * error + ROUNDING)
