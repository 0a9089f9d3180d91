"""Is the difference real? Paired intervals over test rows and seeds, Holm's correction, and a ranking with its ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from featurestore.errors import ProbeError
from probes.results.run import COMPARED, Run, tell_apart
from probes.results.scores import Floats, Metric
from probes.results.tables import Table
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

REFERENCE, TIED, DISTINCT, UNPAIRED = "-", "yes", "no", "no common seed"
"""Values of the column ``tied`` of a ranking."""


@dataclass(frozen=True)
class Comparison:
    """The second line less the first, over their common seeds.

    Attributes:
        first: What it is compared with.
        second: What is judged.
        difference: In the metric, with interval and p-value.
        relative: The difference as a share of the first, with its interval; NaN where the first is zero.
        base: Score of the first over the common seeds.
        seeds: The common seeds.
    """

    first: Configuration
    second: Configuration
    difference: Difference
    relative: Interval
    base: float
    seeds: tuple[int, ...]

    @property
    def verdict(self) -> int:
        """1 where the second is better, -1 where it is worse, 0 where the interval does not tell."""
        return int(self.difference.low > 0) - int(self.difference.high < 0)

    @property
    def rows(self) -> tuple[str, str]:
        """Both lines as they are cited."""
        return str(self.first), str(self.second)

    def __str__(self) -> str:
        """``+0.021 [+0.008, +0.034] (+3.1 %)``."""
        one = self.difference
        relative = f" ({self.relative.value:+.1%})" if np.isfinite(self.relative.value) else ""
        return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]{relative}"


class Resamples:
    """Scores of lines on the same resamples of their test rows and seeds: every difference is paired.

    Args:
        lines: At least one; of one test set.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        confidence: Level of the intervals.
        n_resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        ProbeError: The lines were tested on different rows, or an unknown metric.
    """

    def __init__(
        self,
        lines: Sequence[Configuration],
        metric: Metric = "f1",
        *,
        confidence: float = CONFIDENCE,
        n_resamples: int = N_RESAMPLES,
        seed: int = 0,
    ) -> None:
        _check_rows(lines)
        self.lines = tuple(lines)
        self.metric, self.confidence, self.n_resamples = metric, confidence, n_resamples
        runs = [run for line in lines for run in line.runs]
        scores = resample_scores(
            lines[0].first.truth,
            np.stack([run.predicted for run in runs]),
            metric,
            lines[0].groups,
            n_resamples=n_resamples,
            seed=seed,
        )
        starts = np.cumsum([0, *(len(line.runs) for line in lines)])
        self._scores = [scores[:, start:end] for start, end in pairwise(starts)]
        self._seed = seed

    def draw(self, index: int, seeds: Sequence[int] | None = None) -> Floats:
        """Scores of a line, float64 (1 + n_resamples,), the measured one first; None: over all its seeds."""
        own = [run.seed for run in self.lines[index].runs]
        columns = [own.index(seed) for seed in (own if seeds is None else seeds)]
        return average_seeds(self._scores[index][:, columns], self._seed)

    def measure(self, index: int) -> Interval:
        """Mean score of a line over its seeds, with its interval."""
        return find_interval(self.draw(index), self.confidence)

    def compare(self, first: int, second: int) -> Comparison | None:
        """The second line less the first; None if they have no seed in common."""
        one, other = self.lines[first], self.lines[second]
        seeds = tuple(sorted({run.seed for run in one.runs} & {run.seed for run in other.runs}))
        if not seeds:
            return None
        before, after = self.draw(first, seeds), self.draw(second, seeds)
        change = np.divide(after - before, before, out=np.full_like(before, np.nan), where=before > 0)
        relative = find_interval(change, self.confidence) if before[0] > 0 else Interval(*[np.nan] * 3)
        difference = describe_difference(self.metric, after - before, self.confidence)
        return Comparison(one, other, difference, relative, float(before[0]), seeds)


def compare_lines(
    first: Configuration, second: Configuration, metric: Metric = "f1", **options: Any
) -> Comparison | None:
    """The paired difference of two lines over their common seeds; None if there are none.

    Args:
        first: What it is compared with.
        second: What is judged.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        **options: See `Resamples`.

    Raises:
        ProbeError: See `Resamples`.
    """
    return Resamples([first, second], metric, **options).compare(0, 1)


def compare(first: Sequence[Run], second: Sequence[Run], metric: Metric = "f1", **options: Any) -> Comparison:
    """The paired difference of two configurations, second minus first, from their runs with different seeds.

    Args:
        first: Runs of what it is compared with.
        second: Runs of what is judged.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        **options: See `Resamples`.

    Raises:
        ProbeError: No common seed, or as in `Resamples`.
    """
    lines = [Configuration(tuple(sorted(runs, key=lambda run: run.seed))) for runs in (first, second)]
    seeds = [{run.seed for run in line.runs} for line in lines]
    found = compare_lines(lines[0], lines[1], metric, **options) if seeds[0] & seeds[1] else None
    if found is None:
        raise ProbeError("the runs have no seed in common", where=str(seeds), hint="Compare runs of the same seeds.")
    return found


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


def rank(
    lines: Sequence[Configuration], metric: Metric = "f1", against: Configuration | None = None, **options: Any
) -> pd.DataFrame:
    """Lines by their mean score, the best first, and how sure it is that they differ from it.

    Columns: those of `probes.results.run.COMPARED`, ``settings``, ``n_train``, ``seeds`` (their number), ``n_test``,
    ``metric``; ``mean``, ``low``, ``high``; ``difference``, ``difference_low``, ``difference_high`` from the reference
    over the common seeds; ``p`` of it, and ``p_holm``, adjusted for all differences of the table; ``tied``: ``-`` for
    the reference, ``yes`` where it cannot be told from it, ``no``, or ``no common seed``.

    Args:
        lines: At least one; of one test set.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        against: The reference, one of the lines itself; None: the best.
        **options: See `Resamples`.

    Raises:
        ProbeError: See `Resamples`.
    """
    sampled = Resamples(lines, metric, **options)
    means = [sampled.measure(index) for index in range(len(lines))]
    order = sorted(range(len(lines)), key=lambda index: (-means[index].value, str(lines[index])))
    reference = next((index for index in order if lines[index] is against), order[0])
    found = [sampled.compare(reference, index) if index != reference else None for index in order]
    adjusted = iter(adjust_holm([one.difference.p_value for one in found if one]))
    rows = [
        describe_configuration(lines[index])
        | {"metric": METRICS[metric], "mean": means[index].value, "low": means[index].low, "high": means[index].high}
        | (_judge(one, float(next(adjusted)), 1 - sampled.confidence) if one else _skip(index == reference))
        for index, one in zip(order, found, strict=True)
    ]
    return pd.DataFrame(rows)


def describe_configuration(line: Configuration) -> dict[str, Any]:
    """What identifies a line in a table: `COMPARED`, ``settings``, ``n_train``, ``seeds`` and ``n_test``."""
    fields = {name: getattr(line.first, name) for name in COMPARED} | {"settings": line.settings}
    return fields | {"n_train": line.first.n_train, "seeds": len(line.runs), "n_test": len(line.first.truth)}


def ranking_table(ranking: pd.DataFrame, confidence: float = CONFIDENCE) -> Table:
    """A ranking as it is shown: what tells its rows apart, and numbers with their intervals."""
    names = tell_apart(ranking)
    reference = ranking[ranking["tied"] == REFERENCE].iloc[0]
    metric, family = reference["metric"], ranking["p_holm"].notna().sum()
    cells = ranking[names].astype(str)
    cells[metric] = [f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in ranking.itertuples()]
    cells["difference"] = [_show_difference(row) for row in ranking.itertuples()]
    cells["p (Holm)"] = ["-" if np.isnan(p) else f"{p:.2g}" for p in ranking["p_holm"]]
    cells["tied"] = ranking["tied"]
    shared = [f"{name} {reference[name]}" for name in (*COMPARED, "settings") if name not in names and reference[name]]
    first = "the best, which these same test rows chose" if reference.name == 0 else _name(reference, names)
    seeds = ranking["seeds"].agg(["min", "max"]).unique()
    caption = (
        f"{metric}, mean over {' to '.join(map(str, seeds))} runs, and difference from {first}; {confidence:.0%} "
        f"intervals of a paired bootstrap over {reference['n_test']:,} test rows and over seeds. Tied: not told from "
        f"it at {confidence:.0%} after Holm's correction for {family} comparisons. All rows: {', '.join(shared)}."
    )
    return Table(caption, cells)


def _judge(found: Comparison, adjusted: float, level: float) -> dict[str, Any]:
    one = found.difference
    return {
        "difference": one.value,
        "difference_low": one.low,
        "difference_high": one.high,
        "p": one.p_value,
        "p_holm": adjusted,
        "tied": DISTINCT if adjusted < level else TIED,
    }


def _skip(is_reference: bool) -> dict[str, Any]:
    numbers = ("difference", "difference_low", "difference_high", "p", "p_holm")
    return dict.fromkeys(numbers, np.nan) | {"tied": REFERENCE if is_reference else UNPAIRED}


def _show_difference(row: Any) -> str:
    if np.isnan(row.difference):
        return "-"
    return f"{row.difference:+.3f} [{row.difference_low:+.3f}, {row.difference_high:+.3f}]"


def _name(row: pd.Series[Any], names: Sequence[str]) -> str:
    return ", ".join(str(row[name]) for name in names)


def _check_rows(lines: Sequence[Configuration]) -> None:
    runs = [run for line in lines for run in line.runs]
    if any(tested_on(run) != tested_on(runs[0]) for run in runs):
        raise ProbeError(
            "the runs were tested on different rows",
            where=" and ".join(dict.fromkeys(run.dataset for run in runs)),
            hint="Compare runs of one dataset, one label scheme and one test split.",
        )
