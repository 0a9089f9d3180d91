"""F1 of runs as lines and dots with bars: what the figures of scores draw into their panels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from probes.figures.style import DASHES, MARKERS, PALETTE
from probes.results import COMPARED, Run, to_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Series(NamedTuple):
    """One head on one feature matrix.

    Attributes:
        name: What tells the features from those of the other series: backbone, variant and so on.
        head: Name of the head.
        scores: One row a point: ``fraction``, ``class`` or macro, ``runs``, ``mean``, ``min``, ``max`` over the seeds.
        style: Colour by features; marker and dashes by head.
    """

    name: str
    head: str
    scores: pd.DataFrame
    style: dict[str, Any]

    @property
    def bars(self) -> NDArray[np.float64]:
        """Distances (2, n) from the mean down to the minimum and up to the maximum."""
        scores = self.scores
        # The mean of equal scores may miss them by a rounding error, and a bar must not be negative.
        return np.stack([scores["mean"] - scores["min"], scores["max"] - scores["mean"]]).clip(min=0)


def macro_series(runs: Sequence[Run]) -> list[Series]:
    """Macro-F1 by label fraction, in the order of the runs."""
    scores = _f1_scores(runs)
    return list(_split(scores[scores["class"] == "macro"].sort_values("fraction", kind="stable")))


def class_series(runs: Sequence[Run]) -> list[Series]:
    """F1 by class, of runs of one label fraction, in the order of the runs."""
    scores = _f1_scores(runs)
    return list(_split(scores[scores["class"] != "macro"]))


def draw_lines(axes: Axes, series: Sequence[Series], labels: Sequence[str]) -> None:
    """Score against label fraction."""
    for index, (one, label) in enumerate(zip(series, labels, strict=True)):
        # Moved aside by points of paper, not by data: bars stay apart, and every mark keeps its true fraction.
        points = (index - (len(series) - 1) / 2) * 3
        aside = axes.transData + ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)
        x, y = one.scores["fraction"], one.scores["mean"]
        axes.errorbar(x, y, yerr=one.bars, label=label, capsize=2, transform=aside, **one.style)


def draw_dots(axes: Axes, series: Sequence[Series], labels: Sequence[str]) -> None:
    """Score of each class, classes from top to bottom, series side by side within a class."""
    places = np.linspace(-0.3, 0.3, len(series) + 2)[1:-1]
    for place, one, label in zip(places, series, labels, strict=True):
        x, y = one.scores["mean"], np.arange(len(one.scores)) + place
        axes.errorbar(x, y, xerr=one.bars, label=label, capsize=2, **one.style | {"linestyle": ""})


def label_fractions(axes: Axes, runs: Sequence[Run]) -> None:
    """A logarithmic axis whose ticks are the fractions with their number of labels."""
    fractions = sorted({run.fraction for run in runs})
    numbers = [_range([run.n_train for run in runs if run.fraction == fraction]) for fraction in fractions]
    axes.set_xscale("log")
    axes.set_xticks(fractions, [f"{f}\n({number})" for f, number in zip(fractions, numbers, strict=True)])
    axes.set_xticks([], minor=True)
    axes.set_xlim(fractions[0] / 1.25, fractions[-1] * 1.25)


def label_classes(axes: Axes, run: Run) -> None:
    """Class names with their number of test images, from top to bottom."""
    support = np.bincount(run.truth, minlength=len(run.classes))
    axes.set_yticks(range(len(run.classes)), [f"{c} ({n:,})" for c, n in zip(run.classes, support, strict=True)])
    axes.set_ylim(len(run.classes) - 0.5, -0.5)


def _f1_scores(runs: Sequence[Run]) -> pd.DataFrame:
    """F1 over the seeds: `COMPARED`, ``class`` (or macro), ``runs``, ``mean``, ``min``, ``max``."""
    frame = to_frame(runs)
    f1 = frame[frame["metric"] == "f1"]
    scores = f1.groupby([*COMPARED, "class"], sort=False)["value"].agg(["size", "mean", "min", "max"])
    return scores.rename(columns={"size": "runs"}).reset_index()


def _split(scores: pd.DataFrame) -> Iterator[Series]:
    scores = scores.assign(name=_names(scores))
    colours = dict(zip(scores["name"].unique(), cycle(PALETTE), strict=False))
    shapes = dict(zip(scores["head"].unique(), zip(cycle(MARKERS), cycle(DASHES), strict=False), strict=False))
    for (name, head), part in scores.groupby(["name", "head"], sort=False):
        marker, dashes = shapes[head]
        yield Series(str(name), str(head), part, {"color": colours[name], "marker": marker, "linestyle": dashes})


def _names(scores: pd.DataFrame) -> pd.Series[str]:
    """Names of the features, which say only what differs; the key only where nothing else does."""
    told = [column for column in ("backbone", "variant", "pooling", "protocol") if len(set(scores[column])) > 1]
    told = told or ["backbone", "variant"]
    if scores.groupby(told)["key"].nunique().max() > 1:
        told.append("key")
    return scores[told].astype(str).agg(", ".join, axis=1)


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
