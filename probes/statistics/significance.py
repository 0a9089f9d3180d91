"""Is the difference real? Paired intervals over test rows and seeds, and Holm's correction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from featurestore.errors import ProbeError
from probes.results.run import Run
from probes.results.scores import Floats, Metric
from probes.statistics.bootstrap import (
    CONFIDENCE,
    N_RESAMPLES,
    Difference,
    Interval,
    average_seeds,
    describe_difference,
    find_interval,
    resample_scores,
)
from probes.statistics.configurations import Configuration, tested_on

METRICS: dict[str, str] = {
    "f1": "macro-F1",
    "precision": "macro precision",
    "recall": "macro recall",
    "accuracy": "accuracy",
}
"""How metrics are called in tables."""

ROWS_AND_SEEDS, ROWS_ONLY = "rows and seeds", "rows"
"""What an interval holds the variance of."""


@dataclass(frozen=True)
class Comparison:
    """The second configuration less the first, over their common seeds.

    Attributes:
        first: What it is compared with.
        second: What is judged.
        difference: In the metric, with interval and p-value.
        relative: The difference as a share of the first, with its interval; NaN where the first is zero.
        base: Score of the first over the common seeds.
        seeds: The common seeds.
        seeds_vary: Whether either has runs that differ between these seeds: else the intervals hold the variance of
            rows only.
        p_adjusted: p-value, adjusted for all comparisons of the family; that of the difference for a lone one.
    """

    first: Configuration
    second: Configuration
    difference: Difference
    relative: Interval
    base: float
    seeds: tuple[int, ...]
    seeds_vary: bool
    p_adjusted: float

    @property
    def verdict(self) -> int:
        """1 where the second is better, -1 where it is worse, 0 where the adjusted p-value does not tell."""
        told = self.p_adjusted < 1 - self.difference.confidence
        return int(np.sign(self.difference.value)) if told else 0

    @property
    def rows(self) -> tuple[str, str]:
        """Both configurations as they are cited."""
        return str(self.first), str(self.second)

    def __str__(self) -> str:
        """``+0.021 [+0.008, +0.034] (+3.1 %)``."""
        one = self.difference
        relative = f" ({self.relative.value:+.1%})" if np.isfinite(self.relative.value) else ""
        rows_only = "" if self.seeds_vary else ", over test rows only"
        return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]{relative}{rows_only}"


class Resamples:
    """Scores of configurations on the same resamples of their test rows and seeds: every difference is paired.

    Args:
        configurations: At least one; of one test set.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        confidence: Level of the intervals.
        n_resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        ProbeError: The configurations were tested on different rows, or an unknown metric.
    """

    def __init__(
        self,
        configurations: Sequence[Configuration],
        metric: Metric = "f1",
        *,
        confidence: float = CONFIDENCE,
        n_resamples: int = N_RESAMPLES,
        seed: int = 0,
    ) -> None:
        _check_rows(configurations)
        self.configurations = tuple(configurations)
        self.metric, self.confidence, self.n_resamples = metric, confidence, n_resamples
        runs = [run for one in configurations for run in one.runs]
        scores = resample_scores(
            configurations[0].first.truth,
            np.stack([run.predicted for run in runs]),
            metric,
            configurations[0].groups,
            n_resamples=n_resamples,
            seed=seed,
        )
        starts = np.cumsum([0, *(len(one.runs) for one in configurations)])
        self._scores = [scores[:, start:end] for start, end in pairwise(starts)]
        self._seed = seed

    def draw(self, index: int, seeds: Sequence[int] | None = None) -> Floats:
        """Scores of a configuration, float64 (1 + n_resamples,), the measured one first; None: over all its seeds."""
        return np.clip(average_seeds(self._of(index, seeds), self._seed), 0, 1)

    def measure(self, index: int) -> Interval:
        """Mean score of a configuration over its seeds, with its interval."""
        return find_interval(self.draw(index), self.confidence)

    def compare(self, first: int, second: int) -> Comparison | None:
        """The second configuration less the first; None if they have no seed in common."""
        one, other = self.configurations[first], self.configurations[second]
        seeds = tuple(sorted({run.seed for run in one.runs} & {run.seed for run in other.runs}))
        if not seeds:
            return None
        base = self.draw(first, seeds)
        gain = average_seeds(self._of(second, seeds) - self._of(first, seeds), self._seed)
        change = np.divide(gain, base, out=np.full_like(base, np.nan), where=base > 0)
        relative = find_interval(change, self.confidence) if base[0] > 0 else Interval(*[np.nan] * 3)
        difference = describe_difference(self.metric, gain, self.confidence)
        vary = one.varies(seeds) or other.varies(seeds)
        return Comparison(one, other, difference, relative, float(base[0]), seeds, vary, difference.p_value)

    def _of(self, index: int, seeds: Sequence[int] | None) -> Floats:
        """Scores of some runs, float64 (1 + n_resamples, n_seeds); None: of all."""
        own = [run.seed for run in self.configurations[index].runs]
        return self._scores[index][:, [own.index(seed) for seed in (own if seeds is None else seeds)]]


def compare_configurations(
    first: Configuration, second: Configuration, metric: Metric = "f1", **options: Any
) -> Comparison | None:
    """The paired difference of two configurations over their common seeds; None if there are none.

    Args:
        first: What it is compared with.
        second: What is judged.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        **options: See `Resamples`.

    Raises:
        ProbeError: See `Resamples`.
    """
    return Resamples([first, second], metric, **options).compare(0, 1)


def compare(
    first: Sequence[Run],
    second: Sequence[Run],
    metric: Metric = "f1",
    groups: Sequence[str] | None = None,
    **options: Any,
) -> Comparison:
    """The paired difference of two configurations, second minus first, from their runs with different seeds.

    Args:
        first: Runs of what it is compared with.
        second: Runs of what is judged.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        groups: Group of each test row, which are resampled together; None: every row is on its own.
        **options: See `Resamples`.

    Raises:
        ProbeError: No common seed, or as in `Resamples`.
    """
    known = None if groups is None else tuple(groups)
    one, other = (Configuration(tuple(sorted(runs, key=lambda run: run.seed)), known) for runs in (first, second))
    found = compare_configurations(one, other, metric, **options)
    if found is None:
        seeds = " and ".join(str([run.seed for run in each.runs]) for each in (one, other))
        raise ProbeError("the runs have no seed in common", where=seeds, hint="Compare runs of the same seeds.")
    return found


def describe_intervals(confidence: float, n_test: int, seeds_vary: Iterable[bool]) -> str:
    """What the intervals of a table are, as the end of a sentence.

    Args:
        confidence: Level of the intervals.
        n_test: Number of test rows.
        seeds_vary: For each row whether its runs differ between seeds.
    """
    vary = list(seeds_vary)
    text = f"{confidence:.0%} intervals of a paired bootstrap over {n_test:,} test rows"
    if all(vary):
        return f"{text} and over seeds."
    why = "one seed, or seeds that gave equal runs, so that the variance of training is not in"
    if not any(vary):
        return f"{text} alone: {why} them."
    return f"{text} and over seeds; those over rows alone have {why} them."


def adjust_holm(p_values: Sequence[float] | Floats) -> Floats:
    """p-values adjusted for being one of a family: that a single one of them is wrong keeps its probability.

    With p_(1) <= ... <= p_(m)::

        adjusted_(i) = min(1, max_{j <= i} (m - j + 1) p_(j))

    Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian J. Statistics 6, 65.

    Args:
        p_values: float64 (m,), in [0, 1].

    Returns:
        float64 (m,), in the order of the input.
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)))
    return adjusted


def _check_rows(configurations: Sequence[Configuration]) -> None:
    runs = [run for one in configurations for run in one.runs]
    if any(tested_on(run) != tested_on(runs[0]) for run in runs):
        raise ProbeError(
            "the runs were tested on different rows",
            where=" and ".join(dict.fromkeys(run.dataset for run in runs)),
            hint="Compare runs of one dataset, one label scheme and one test split.",
        )
