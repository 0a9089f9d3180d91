"""Learning curves: a power law through the scores at several numbers of labels, and how many labels a score needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from featurestore.errors import ProbeError
from probes.results.run import COMPARED, tell_apart, tell_untested
from probes.results.scores import Floats, Metric
from probes.results.tables import Table
from probes.statistics.bootstrap import Interval, find_interval
from probes.statistics.configurations import Configuration
from probes.statistics.ranking import describe_configuration
from probes.statistics.significance import METRICS, Resamples, describe_intervals

EXPONENTS = np.geomspace(0.02, 4, 150)
"""Exponents that are tried: below, a power law cannot be told from a logarithm; above, from a step."""

FEWEST = 4
"""Label fractions that a curve of three parameters needs, so that it does not merely join the points."""


HORIZON = 1_000
"""Times the measured labels, beyond which a number of labels is not reported."""

N_RESAMPLES = 1_999
"""Resamples that a curve is fitted to; an interval needs fewer than a small p-value does."""


@dataclass(frozen=True)
class LearningCurve:
    """``score = a - b n^-c`` with 0 <= a <= 1 and b >= 0, fitted to a configuration at several numbers of labels.

    Attributes:
        steps: The configuration by label fraction, ascending.
        metric: What was fitted.
        labels: float64 (f,), number of training labels, mean over the seeds.
        scores: float64 (f,), mean over the seeds.
        parameters: float64 (1 + n_resamples, 3), a, b and c; the first row is the fit to `scores`.
        confidence: Level of the intervals.
    """

    steps: tuple[Configuration, ...]
    metric: Metric
    labels: Floats
    scores: Floats
    parameters: Floats
    confidence: float

    @property
    def asymptote(self) -> Interval:
        """The score that no number of labels exceeds."""
        return find_interval(self.parameters[:, 0], self.confidence)

    @property
    def identified(self) -> bool:
        """Whether the points bend enough to tell the asymptote; else limits of what is tried decide, not the points."""
        _, b, c = self.parameters[0]
        return bool(self.asymptote.high < 1 and b > 0 and EXPONENTS[0] < c < EXPONENTS[-1])

    def predict(self, labels: Floats) -> tuple[Floats, Floats, Floats]:
        """Fitted scores and their interval.

        Args:
            labels: float64 (k,), numbers of labels.

        Returns:
            Value, low and high, float64 (k,) each.
        """
        a, b, c = self.parameters.T[:, :, None]
        scores = a - b * labels**-c
        level = (1 - self.confidence) / 2
        low, high = np.quantile(scores[1:], [level, 1 - level], axis=0)
        return scores[0], low, high

    def labels_for(self, target: float) -> Interval:
        """Number of labels at which the curve reaches a score; infinite where it never does.

        With a > target::

            n = (b / (a - target))^(1 / c)

        Args:
            target: The score.
        """
        needed = self._labels_by_draw(target)
        level = (1 - self.confidence) / 2
        # Quantiles that are draws themselves: between a number and infinity there is nothing to interpolate.
        low, high = np.quantile(needed[1:], [level, 1 - level], method="inverted_cdf")
        return Interval(float(needed[0]), float(low), float(high))

    def share_never(self, target: float) -> float:
        """Share of the resamples whose curve does not reach a score within `HORIZON` times the labels measured."""
        return float((self._labels_by_draw(target)[1:] > HORIZON * self.labels[-1]).mean())

    def _labels_by_draw(self, target: float) -> Floats:
        a, b, c = self.parameters.T
        gap = a - target
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(np.where(gap > 0, (b / np.where(gap > 0, gap, 1)) ** (1 / c), np.inf))


def gather_curves(configurations: Sequence[Configuration]) -> list[tuple[Configuration, ...]]:
    """Configurations that differ in their label fraction alone, ascending; of `FEWEST` or more numbers of labels."""

    def identify(one: Configuration) -> tuple[str, ...]:
        return (*(str(getattr(one.first, name)) for name in COMPARED if name != "fraction"), one.settings)

    ordered = sorted(configurations, key=lambda one: (identify(one), one.first.fraction))
    curves = [tuple(part) for _, part in groupby(ordered, key=identify)]
    return [curve for curve in curves if len(set(_count_labels(curve).tolist())) >= FEWEST]


def fit_curve(steps: Sequence[Configuration], metric: Metric = "f1", **options: Any) -> LearningCurve:
    """The curve of one configuration; see `fit_curves`."""
    return fit_curves([steps], metric, **options)[0]


def fit_curves(
    curves: Sequence[Sequence[Configuration]], metric: Metric = "f1", *, n_resamples: int = N_RESAMPLES, **options: Any
) -> list[LearningCurve]:
    """Fit curves to the measured scores, and again to each resample of test rows and seeds, which they share.

    Args:
        curves: Configurations, each at `FEWEST` or more label fractions; all of one test set.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        n_resamples: Number of resamples.
        **options: Others of `probes.statistics.significance.Resamples`.

    Raises:
        ProbeError: Too few fractions, or as in `probes.statistics.significance.Resamples`.
    """
    labels = [_count_labels(steps) for steps in curves]
    for steps, numbers in zip(curves, labels, strict=True):
        if len(set(numbers.tolist())) < FEWEST:
            raise ProbeError(
                f"a learning curve needs {FEWEST} different numbers of labels, not {sorted(set(numbers.tolist()))}",
                where=str(steps[0]) if steps else "no configurations",
                hint="Probe more label fractions: --fractions 10,30,50,100.",
            )
    every = [one for steps in curves for one in steps]
    if not every:
        return []
    sampled = Resamples(every, metric, n_resamples=n_resamples, **options)
    draws = iter([sampled.draw(index) for index in range(len(every))])
    fitted = []
    for steps, numbers in zip(curves, labels, strict=True):
        scores = np.stack([next(draws) for _ in steps], axis=1)
        parameters = fit_power_law(numbers, scores)
        fitted.append(LearningCurve(tuple(steps), metric, numbers, scores[0], parameters, sampled.confidence))
    return fitted


def fit_power_law(labels: Floats, scores: Floats) -> Floats:
    """Least squares of ``a - b labels^-c`` with 0 <= a <= 1, b >= 0 and c of `EXPONENTS`.

    For a given c the law is linear in a and b, and least squares has a closed form within its bounds; so c is searched
    on a fine grid, which finds the best of all where descent may end in a valley.

    Source of the law: Cortes et al. 1994, Learning Curves: Asymptotic Values and Rate of Convergence, NIPS 6.

    Args:
        labels: float64 (f,), positive.
        scores: float64 (k, f), in [0, 1]; one fit for each row.

    Returns:
        float64 (k, 3): a, b and c; where the scores do not rise, b is 0 and a their mean.
    """
    best, least = np.zeros((len(scores), 3)), np.full(len(scores), np.inf)
    for c in EXPONENTS:
        x = (labels / labels[0]) ** -c  # scaled, so that b stays near the size of a score
        a, b = _fit_line(x, scores)
        loss = ((a[:, None] - b[:, None] * x - scores) ** 2).sum(axis=1)
        better = loss < least
        least[better] = loss[better]
        best[better] = np.stack([a, b * labels[0] ** c, np.full_like(a, c)], axis=1)[better]
    return best


def tell_needs(curves: Sequence[LearningCurve], target: float) -> list[str]:
    """How many labels a score needs, in sentences that say how far beyond the measured they go.

    One sentence for each curve that reaches it, one for all others, and one for all whose interval has no upper end.

    Args:
        curves: At least one, all of one metric.
        target: The score.
    """
    needs = [(curve, curve.labels_for(target)) for curve in curves]
    score = f"{METRICS[curves[0].metric]} {target:g}"
    told = [_tell_need(curve, need, score) for curve, need in needs if _within(need.value, curve)]
    if beyond := [_tell_asymptote(curve) for curve, need in needs if not _within(need.value, curve)]:
        told.append(f"{score} is not reached with up to {HORIZON:,} times the labels measured by {'; '.join(beyond)}.")
    if open_ended := [curve for curve, need in needs if _within(need.low, curve) and not _within(need.high, curve)]:
        told.append(f"{_tell_open(open_ended, target)}: {'; '.join(curve.steps[-1].name for curve in open_ended)}.")
    return told


def curve_frame(curves: Sequence[LearningCurve], target: float | None = None) -> pd.DataFrame:
    """One row a curve.

    Columns: `probes.results.run.COMPARED` but the fraction, ``settings``, ``metric``, ``fractions`` and ``labels`` (the
    most that were measured), ``score`` there; ``asymptote``, ``exponent``, ``doubled`` (the score that the curve
    expects of twice the labels), and with a target ``needed`` (labels; infinite where it is never reached), each with
    ``_low`` and ``_high`` but the exponent; ``identified``: whether the points fix the asymptote.
    """
    return pd.DataFrame([_describe(curve, target) for curve in curves])


def curve_table(curves: Sequence[LearningCurve], target: float | None = None) -> Table:
    """Learning curves as they are shown; at least one."""
    frame, one = curve_frame(curves, target), curves[0]
    cells = frame[[name for name in tell_apart(frame) if name != "fraction"]].astype(str)
    cells["labels"] = [f"{labels:,.0f}" for labels in frame["labels"]]
    cells[METRICS[one.metric]] = [f"{score:.3f}" for score in frame["score"]]
    for name, title in (("doubled", "twice the labels"), ("asymptote", "asymptote")):
        cells[title] = ["{:.3f} [{:.3f}, {:.3f}]".format(*row) for row in frame[_ends(name)].to_numpy().tolist()]
    cells["identified"] = ["yes" if found else "no" for found in frame["identified"]]
    open_ended = []
    if target is not None:
        needs = [(curve, curve.labels_for(target)) for curve in curves]
        cells[f"labels for {target:g}"] = [_show_need(curve, need) for curve, need in needs]
        open_ended = [curve for curve, need in needs if _within(need.low, curve) and not _within(need.high, curve)]
    vary = [all(step.varies() for step in curve.steps) for curve in curves]
    intervals = describe_intervals(one.confidence, len(one.steps[0].first.truth), vary)
    caption = (
        f"Learning curves {METRICS[one.metric]} = a - b n^-c of {one.steps[0].first.dataset} "
        f"({one.steps[0].first.scheme}), fitted to {len(one.steps)} label fractions; {intervals} Whatever is beyond "
        "the labels measured is extrapolated; where the asymptote a is not identified, the points do not bend enough "
        f"to tell it.{tell_untested(frame['untested'])}"
    )
    if open_ended and target is not None:
        caption += f" {_tell_open(open_ended, target)}."
    return Table(caption, cells)


def _describe(curve: LearningCurve, target: float | None) -> dict[str, Any]:
    doubled = [float(ends[0]) for ends in curve.predict(2 * curve.labels[-1:])]
    row = describe_configuration(curve.steps[-1]) | {
        "metric": METRICS[curve.metric],
        "fractions": len(curve.steps),
        "labels": curve.labels[-1],
        "score": curve.scores[-1],
        "exponent": curve.parameters[0, 2],
        "identified": curve.identified,
    }
    row |= _with_ends("asymptote", curve.asymptote) | _with_ends("doubled", doubled)
    return row if target is None else row | _with_ends("needed", curve.labels_for(target))


def _ends(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _with_ends(name: str, values: Sequence[float]) -> dict[str, float]:
    return dict(zip(_ends(name), values, strict=True))


def _count_labels(steps: Sequence[Configuration]) -> Floats:
    """Mean number of training labels of each configuration."""
    return np.array([np.mean([run.n_train for run in one.runs]) for one in steps], dtype=np.float64)


def _fit_line(x: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Least squares of ``a - b x`` with b >= 0 and a <= 1; at most one of both bounds can bind."""
    centre, mean = x.mean(), scores.mean(axis=1)
    slope = ((x - centre) * (scores - mean[:, None])).sum(axis=1) / ((x - centre) ** 2).sum()
    b = np.maximum(-slope, 0)
    a = mean + b * centre
    b = np.where(a > 1, (x * (1 - scores)).sum(axis=1) / (x**2).sum(), b)
    return np.minimum(a, 1), b


def _within(labels: float, curve: LearningCurve) -> bool:
    """Whether a number of labels is near enough to the measured ones to be told."""
    return bool(labels <= HORIZON * curve.labels[-1])


def _tell_need(curve: LearningCurve, need: Interval, score: str) -> str:
    """The labels that one curve needs; an interval without an upper end is told of all curves together."""
    most, ends = curve.labels[-1], f"at least {_count(need.low)}"
    if _within(need.high, curve):
        ends += f", at most {_count(need.high)}"
    told = f"{curve.steps[-1].name}: {score} needs about {_count(need.value)} labels ({ends})"
    if need.value <= most:
        return f"{told}; {most:,.0f} were measured."
    unsure = "" if curve.identified else ", by an asymptote that the points do not fix"
    return f"{told}, {_count(need.value - most)} more than the {most:,.0f} measured: extrapolated{unsure}."


def _tell_asymptote(curve: LearningCurve) -> str:
    value, low, high = curve.asymptote
    unsure = "" if curve.identified else ", which the points do not fix"
    return f"{curve.steps[-1].name} (asymptote {value:.3f} [{low:.3f}, {high:.3f}]{unsure})"


def _tell_open(curves: Sequence[LearningCurve], target: float) -> str:
    """Why intervals have no upper end."""
    never = [curve.share_never(target) for curve in curves]
    share = " to ".join(dict.fromkeys(f"{end:.0%}" for end in (min(never), max(never))))
    return f"Open intervals of the labels needed: in {share} of the resamples the curve never reaches {target:g}"


def _show_need(curve: LearningCurve, need: Interval) -> str:
    if not _within(need.low, curve):
        return "not reached"
    value, high = (_count(end) if _within(end, curve) else "" for end in (need.value, need.high))
    return f"{value or 'not reached'} [{_count(need.low)}, {high or 'open'}]"


def _count(number: float) -> str:
    """A number of labels to two digits."""
    return f"{float(f'{number:.2g}'):,.0f}"
