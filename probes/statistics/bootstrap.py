"""Bootstrap of scores: all that is compared is read off the same resamples of test rows and of seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ProbeError
from probes.results.scores import Floats, Labels, Metric, score_counts

N_RESAMPLES = 9_999
"""Resamples; with so many, a difference can stand out of a family of two hundred (see `p_value`)."""

CONFIDENCE = 0.95

_EQUAL = 1e-12
"""Standard deviation over seeds below which scores are equal."""

_BLOCK = 4_000_000
"""Weights that are held at once: resamples come in blocks, so that memory does not grow with the test set."""


class Interval(NamedTuple):
    """A number and its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A difference of two scores on the same test rows, with its bootstrap interval.

    Attributes:
        metric: What was compared; precision, recall and F1 are macro means.
        value: Second minus first.
        low: Lower end of the interval.
        high: Upper end of the interval.
        confidence: Level of the interval, in (0, 1).
        n_resamples: Bootstrap resamples.
        p_value: See `p_value`.
    """

    metric: str
    value: float
    low: float
    high: float
    confidence: float
    n_resamples: int
    p_value: float


def resample_scores(
    truth: Labels,
    predictions: Labels,
    metric: Metric = "f1",
    groups: Sequence[str] | None = None,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Floats:
    """Scores of several runs on the same resamples of the test rows.

    Whole groups are drawn where there are groups: images of one source are not independent. The scores depend
    on a resample only through counts by class, which are sums over its units (rows or groups); units that count alike
    are drawn together, from a multinomial law. A class that a resample misses is in no mean.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 6 and 8.

    Args:
        truth: int64 (n,), true classes.
        predictions: int64 (n_runs, n), predicted classes.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        groups: Group of each row; an empty one is none. None: every row is on its own.
        n_resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        float64 (1 + n_resamples, n_runs); the first row holds the scores as they were measured.

    Raises:
        ProbeError: Lengths differ, no rows, or an unknown metric.
    """
    _check(truth, predictions, metric)
    n_runs, units = len(predictions), _number_units(len(truth), groups)
    counts = _count(truth, predictions, units)
    n_units, _, n_classes = counts.shape
    distinct, times = _join_alike(counts.reshape(n_units, -1))
    parts = []
    for weights in _draw(times, n_resamples, seed):
        # Counts below 2^24 are exact in float32, so that the sums do not depend on their order.
        sums = (weights.astype(np.float32) @ distinct).reshape(len(weights), -1, n_classes).astype(np.float64)
        parts.append(score_counts(sums[:, 1 : n_runs + 1], sums[:, :1], sums[:, n_runs + 1 :], metric))
    return np.concatenate(parts)


def average_seeds(scores: Floats, seed: int = 0) -> Floats:
    """Mean over seeds with the variance of rows and of seeds: draws of a generalised pivot.

    With d_s the deviation of seed s from the mean of all S, s^2 their variance and i^2 the part of s^2 that is due to
    the sample of test rows (seeds err on different rows, which the resamples of rows hold already)::

        draw = mean_s(score_s of the resample) + sqrt(max(0, 1 - i^2 x / s^2)) sum_s g_s d_s / sqrt(S (S - 1) x)

    where g_s is standard normal and x chi-squared over its S - 1 degrees of freedom. Without the root, the second term
    is s / sqrt(S) times Student's t, so that few seeds give as wide an interval as they should. The random numbers
    depend on the number of seeds alone: what has equal seeds is resampled alike. One seed, and seeds that gave equal
    scores, say nothing of training: their draws hold the variance of rows only. Where training adds little to the
    noise of rows, three seeds err on the side of wide intervals: a coverage of 0.97 to 0.98 where 0.95 is asked for.

    Sources: Weerahandi 1993, Generalized Confidence Intervals, J. American Statistical Association 88, 899; Owen 2007,
    The pigeonhole bootstrap, Annals of Applied Statistics 1, 386, on i^2 counted twice.

    Args:
        scores: float64 (1 + n_resamples, n_seeds), as in `resample_scores`, or differences of them.
        seed: Seed of the random numbers.

    Returns:
        float64 (1 + n_resamples,), the measured mean first.
    """
    n_resamples, n_seeds = len(scores) - 1, scores.shape[1]
    means = scores.mean(axis=1)
    deviations = scores[0] - means[0]
    variance = deviations @ deviations / max(1, n_seeds - 1)
    if variance < _EQUAL**2:  # nothing but rounding
        return np.asarray(means)
    rng = np.random.default_rng([seed, n_seeds])
    normal = rng.normal(size=(n_resamples, n_seeds))
    chi2 = rng.chisquare(n_seeds - 1, size=n_resamples) / (n_seeds - 1)
    spread = scores[1:] - means[1:, None]
    by_rows = ((spread - spread.mean(axis=0)) ** 2).mean(axis=0).sum() / (n_seeds - 1)
    beyond_rows = np.sqrt(np.maximum(0, 1 - by_rows * chi2 / variance))
    means[1:] += beyond_rows * (normal @ deviations) / np.sqrt(n_seeds * (n_seeds - 1) * chi2)
    return np.asarray(means)


def find_interval(draws: Floats, confidence: float = CONFIDENCE) -> Interval:
    """Percentile interval.

    Source: Efron & Tibshirani 1993, chapter 13.

    Args:
        draws: float64 (1 + n_resamples,), the measured value first; NaN is not a draw.
        confidence: Level, in (0, 1).
    """
    low, high = np.nanquantile(draws[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(draws[0]), float(low), float(high))


def p_value(draws: Floats) -> float:
    """Two-sided p-value of "there is no difference": twice the share of draws on the rarer side of zero.

    The measured value counts as one more draw on either side, so that the p-value is never zero::

        p = min(1, 2 (1 + min(#{d <= 0}, #{d >= 0})) / (n_resamples + 1))

    Source: Davison & Hinkley 1997, Bootstrap Methods and their Application, equation 4.11, on both sides.

    Args:
        draws: float64 (1 + n_resamples,), the measured difference first; NaN is not a draw.
    """
    drawn = draws[1:][~np.isnan(draws[1:])]
    rarer = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return float(min(1.0, 2 * (1 + rarer) / (len(drawn) + 1)))


def describe_difference(metric: str, draws: Floats, confidence: float = CONFIDENCE) -> Difference:
    """Interval and p-value of draws of a difference, float64 (1 + n_resamples,), the measured one first."""
    return Difference(metric, *find_interval(draws, confidence), confidence, len(draws) - 1, p_value(draws))


def bootstrap_difference(
    truth: Labels, first: Labels, second: Labels, metric: Metric = "f1", *, confidence: float = CONFIDENCE, **draw: Any
) -> Difference:
    """Paired bootstrap of ``metric(second) - metric(first)`` over test rows.

    Args:
        truth: int64 (n,), true classes.
        first: int64 (n,), classes predicted by the first run.
        second: int64 (n,), classes predicted by the second run.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        confidence: Level of the interval.
        **draw: ``n_resamples`` and ``seed`` of `resample_scores`.

    Raises:
        ProbeError: Lengths differ, no rows, or an unknown metric.
    """
    _check(truth, [first, second], metric)
    scores = resample_scores(truth, np.stack([first, second]), metric, **draw)
    return describe_difference(metric, scores[:, 1] - scores[:, 0], confidence)


def _number_units(n: int, groups: Sequence[str] | None) -> Labels:
    """Number of the unit of each row."""
    if groups is None:
        return np.arange(n)
    names = [(group, "") if group else ("", str(row)) for row, group in enumerate(groups)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def _count(truth: Labels, predictions: Labels, units: Labels) -> NDArray[np.float32]:
    """Rows by class of each unit, (n_units, 1 + 2 n_runs, n_classes): true; right, by run; predicted, by run."""
    n_units, n_classes = int(units.max()) + 1, int(max(truth.max(), predictions.max())) + 1

    def tally(classes: Labels, weights: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        cells = np.bincount(units * n_classes + classes, weights, minlength=n_units * n_classes)
        return cells.reshape(n_units, n_classes)

    right = [tally(truth, predicted == truth) for predicted in predictions]
    columns = np.stack([tally(truth), *right, *map(tally, predictions)], axis=1)
    return columns.astype(np.float32)


def _join_alike(counts: NDArray[np.float32]) -> tuple[NDArray[np.float32], Labels]:
    """Distinct rows, and how often each occurs; compared as bytes, which sorts fast."""
    as_bytes = counts.view(np.dtype((np.void, counts.itemsize * counts.shape[1]))).ravel()
    _, first, times = np.unique(as_bytes, return_index=True, return_counts=True)
    return counts[first], times


def _draw(times: Labels, n_resamples: int, seed: int) -> Iterator[Labels]:
    """How often each distinct unit is drawn, in blocks (b, n_distinct); first once as it was measured."""
    rng, n = np.random.default_rng(seed), int(times.sum())
    size = max(1, _BLOCK // len(times))
    yield times[None]
    for start in range(0, n_resamples, size):
        yield rng.multinomial(n, times / n, size=min(size, n_resamples - start))


def _check(truth: Labels, predictions: Sequence[Labels] | Labels, metric: str) -> None:
    lengths = [len(truth), *map(len, predictions)]
    if len(set(lengths)) > 1 or not len(truth):
        listed = f"{', '.join(map(str, lengths[:-1]))} and {lengths[-1]}"
        raise ProbeError(
            f"{listed} rows cannot be paired", where="bootstrap", hint="Compare runs on the same test rows."
        )
    if metric not in get_args(Metric):
        raise ProbeError(
            f"no paired interval for {metric!r}", where="metric", hint=f"Use one of {', '.join(get_args(Metric))}."
        )
