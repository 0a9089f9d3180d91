"""Learning curves: a power law through the scores at several numbers of labels, and how many labels a score needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from featurestore.errors import ProbeError
from probes.results.run import COMPARED, tell_apart
from probes.results.scores import Floats, Metric
from probes.results.tables import Table
from probes.statistics.bootstrap import Interval, find_interval
from probes.statistics.configurations import Configuration
from probes.statistics.significance import METRICS, Resamples, describe_configuration

EXPONENTS = np.geomspace(0.02, 4, 150)
"""Exponents that are tried: below, a power law is no longer told from a logarithm; above, from a step."""

FEWEST = 4
"""Label fractions that a curve of three parameters needs, so that it does not merely join the points."""


HORIZON = 1_000
"""Times the measured labels, beyond which a number of labels is no longer told."""

N_RESAMPLES = 1_999
"""Resamples that a curve is fitted to; an interval needs fewer than a small p-value does."""


@dataclass(frozen=True)
class LearningCurve:
    """``score = a - b n^-c`` with 0 <= a <= 1 and b >= 0, fitted to a configuration at several numbers of labels.

    Attributes:
        lines: The configuration by label fraction, ascending.
        metric: What was fitted.
        labels: float64 (f,), number of training labels, mean over the seeds.
        scores: float64 (f,), mean over the seeds.
        parameters: float64 (1 + n_resamples, 3), a, b and c; the first row is the fit to `scores`.
        confidence: Level of the intervals.
    """

    lines: tuple[Configuration, ...]
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
        a, b, c = self.parameters.T
        gap = a - target
        with np.errstate(divide="ignore", over="ignore"):
            needed = np.where(gap > 0, (b / np.where(gap > 0, gap, 1)) ** (1 / c), np.inf)
        level = (1 - self.confidence) / 2
        # Quantiles that are draws themselves: between a number and infinity there is nothing to interpolate.
        low, high = np.quantile(needed[1:], [level, 1 - level], method="inverted_cdf")
        return Interval(float(needed[0]), float(low), float(high))


def gather_curves(lines: Sequence[Configuration]) -> list[tuple[Configuration, ...]]:
    """Lines that differ in their label fraction alone, ascending; those of `FEWEST` or more numbers of labels."""

    def identify(line: Configuration) -> tuple[str, ...]:
        return (*(str(getattr(line.first, name)) for name in COMPARED if name != "fraction"), line.settings)

    ordered = sorted(lines, key=lambda line: (identify(line), line.first.fraction))
    curves = [tuple(part) for _, part in groupby(ordered, key=identify)]
    return [curve for curve in curves if len(set(_count_labels(curve).tolist())) >= FEWEST]


def fit_curve(lines: Sequence[Configuration], metric: Metric = "f1", **options: Any) -> LearningCurve:
    """The curve of one configuration; see `fit_curves`."""
    return fit_curves([lines], metric, **options)[0]


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
    labels = [_count_labels(lines) for lines in curves]
    for lines, numbers in zip(curves, labels, strict=True):
        if len(set(numbers.tolist())) < FEWEST:
            raise ProbeError(
                f"a learning curve needs {FEWEST} different numbers of labels, not {sorted(set(numbers.tolist()))}",
                where=str(lines[0]) if lines else "no lines",
                hint="Probe more label fractions: --fractions 10,30,50,100.",
            )
    every = [line for lines in curves for line in lines]
    if not every:
        return []
    sampled = Resamples(every, metric, n_resamples=n_resamples, **options)
    draws = iter([sampled.draw(index) for index in range(len(every))])
    fitted = []
    for lines, numbers in zip(curves, labels, strict=True):
        scores = np.stack([next(draws) for _ in lines], axis=1)
        parameters = fit_power_law(numbers, scores)
        fitted.append(LearningCurve(tuple(lines), metric, numbers, scores[0], parameters, sampled.confidence))
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


def tell_need(curve: LearningCurve, target: float) -> str:
    """How many labels a score needs, as a sentence that says how far beyond the measured it goes."""
    name, most, need = METRICS[curve.metric], curve.labels[-1], curve.labels_for(target)
    low, value, high = (_count(number, most) for number in (need.low, need.value, need.high))
    ceiling = "asymptote {:.3f} [{:.3f}, {:.3f}]".format(*curve.asymptote)
    unsure = "" if curve.identified else " The measured points do not fix the asymptote: take it as a guess."
    if not np.isfinite(need.low):
        return f"{name} {target:g} is not reached: {ceiling} < {target:g}.{unsure}"
    if need.value > HORIZON * most:
        return (
            f"{name} {target:g} is not reached by the best fit, with labels up to {HORIZON:,} times the {most:,.0f} "
            f"measured: {ceiling}; interval of the labels needed [{low}, {high}].{unsure}"
        )
    told = f"{name} {target:g} needs about {value} labels [{low}, {high}]"
    if need.value <= most:
        return f"{told}; {most:,.0f} were measured.{unsure if need.high > most else ''}"
    more = _count(need.value - most, most)
    return f"{told}, {more} more than the {most:,.0f} measured: extrapolated; {ceiling}.{unsure}"


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
    if target is not None:
        needed = zip(frame["labels"], frame[_ends("needed")].to_numpy().tolist(), strict=True)
        cells[f"labels for {target:g}"] = [
            "{} [{}, {}]".format(*(_count(number, most) for number in row)) for most, row in needed
        ]
    caption = (
        f"Learning curves {METRICS[one.metric]} = a - b n^-c of {one.lines[0].first.dataset} "
        f"({one.lines[0].first.scheme}), fitted to {len(one.lines)} label fractions; {one.confidence:.0%} intervals of "
        "a bootstrap over test rows and over seeds. Whatever is beyond the labels measured is extrapolated; where the "
        "asymptote a is not identified, the points do not bend enough to tell it."
    )
    return Table(caption, cells)


def _describe(curve: LearningCurve, target: float | None) -> dict[str, Any]:
    a, doubled = curve.asymptote, [float(ends[0]) for ends in curve.predict(2 * curve.labels[-1:])]
    row = describe_configuration(curve.lines[-1]) | {
        "metric": METRICS[curve.metric],
        "fractions": len(curve.lines),
        "labels": curve.labels[-1],
        "score": curve.scores[-1],
        "exponent": curve.parameters[0, 2],
        "identified": curve.identified,
    }
    row |= dict(zip(_ends("asymptote"), a, strict=True)) | dict(zip(_ends("doubled"), doubled, strict=True))
    return row | (dict(zip(_ends("needed"), curve.labels_for(target), strict=True)) if target is not None else {})


def _ends(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _count_labels(lines: Sequence[Configuration]) -> Floats:
    """Mean number of training labels of each line."""
    return np.array([np.mean([run.n_train for run in line.runs]) for line in lines], dtype=np.float64)


def _fit_line(x: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Least squares of ``a - b x`` with b >= 0 and a <= 1; at most one of both bounds can bind."""
    centre, mean = x.mean(), scores.mean(axis=1)
    slope = ((x - centre) * (scores - mean[:, None])).sum(axis=1) / ((x - centre) ** 2).sum()
    b = np.maximum(-slope, 0)
    a = mean + b * centre
    b = np.where(a > 1, (x * (1 - scores)).sum(axis=1) / (x**2).sum(), b)
    return np.minimum(a, 1), b


def _count(number: float, most: float) -> str:
    """A number of labels to two digits, if it is not too far beyond the measured ones."""
    far = number > HORIZON * most
    rounded = float(f"{HORIZON * most if far else number:.2g}")
    return f"more than {rounded:,.0f}" if far else f"{rounded:,.0f}"
