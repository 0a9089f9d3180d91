"""Figures of scores: against the share of labels, by class, and as a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurestore.errors import ProbeError
from probes.plotting import COLUMN, PAGE, STYLE, name_axes, share_legend, title_figure
from probes.results.run import COMPARED, Run
from studies.figures.series import (
    Series,
    class_series,
    draw_dots,
    draw_lines,
    label_classes,
    label_fractions,
    macro_series,
    name_subject,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES = 6
"""With more lines than this, a figure has one panel for each head."""


@mpl.rc_context(STYLE)
def f1_by_fraction(runs: Sequence[Run]) -> Figure:
    """Macro-F1 against the share of labels: a line for each head on each features, bars from min to max over seeds.

    Raises:
        ProbeError: No runs, or runs of several datasets or label schemes.
    """
    first = _of_one_dataset(runs)
    series = macro_series(runs)
    figure, panels = _panels(series, height=2.3)
    for axes, part, labels in panels:
        draw_lines(axes, part, labels)
        label_fractions(axes, runs)
    panels[0][0].set_ylim(fit_scores(series))
    name_axes(figure, "share of the training labels, % (number of labels)", "macro-F1 (bars: min to max)")
    share_legend(figure)
    title_figure(figure, f"{name_subject(first)}: macro-F1\non {len(first.truth):,} test images, {count_runs(series)}")
    return figure


@mpl.rc_context(STYLE)
def per_class_f1(runs: Sequence[Run], fraction: int | None = None) -> Figure:
    """F1 of each class at one share of labels: dots are means over seeds, bars go from min to max.

    Args:
        runs: Runs of one dataset and label scheme.
        fraction: Percent of the labels; None: the largest.

    Raises:
        ProbeError: No runs of that fraction, or runs of several datasets or label schemes.
    """
    chosen = at_fraction(runs, fraction)
    first = _of_one_dataset(chosen)
    series = class_series(chosen)
    figure, panels = _panels(series, height=0.6 + 0.4 * len(first.classes))
    for axes, part, labels in panels:
        draw_dots(axes, part, labels)
        label_classes(axes, first)
    name_axes(figure, "F1 (dot: mean; bar: min to max)", "class (test images)")
    share_legend(figure)
    title_figure(
        figure,
        f"{name_subject(first)}: F1 by class, {first.fraction} % of the labels\n"
        f"on {len(first.truth):,} test images, {count_runs(series)}",
    )
    return figure


@mpl.rc_context(STYLE)
def confusion(runs: Sequence[Run]) -> Figure:
    """Confusion matrix of one head at its largest share of labels, summed over seeds, in percent of the true class.

    Raises:
        ProbeError: No runs, or runs of more than one head or of several features.
    """
    chosen = at_fraction(runs, None)
    if len({tuple(getattr(run, name) for name in COMPARED) for run in chosen}) > 1:
        raise ProbeError("a confusion matrix shows one head", where="runs", hint="Give the runs of one head only.")
    first, counts = chosen[0], confusion_counts(chosen)
    side = max(COLUMN, 1.3 + 0.62 * len(first.classes))
    figure = Figure(figsize=(side + 0.5, side))
    _draw_matrix(figure, counts, first.classes)
    title_figure(
        figure,
        f"{name_subject(first)}: {first.head} on {first.backbone}, {first.variant}\n"
        f"{first.fraction} % of the labels, {len(first.truth):,} test images, {_plural(len(chosen), 'run')} summed",
    )
    return figure


def confusion_counts(runs: Sequence[Run]) -> NDArray[np.int64]:
    """Test rows by true and predicted class, summed over runs of equal classes; int64 (n_classes, n_classes)."""
    counts = np.zeros((len(runs[0].classes),) * 2, dtype=np.int64)
    for run in runs:
        np.add.at(counts, (run.truth, run.predicted), 1)
    return counts


def at_fraction(runs: Sequence[Run], fraction: int | None) -> list[Run]:
    """Runs on this share of the labels, in percent; the largest for None.

    Raises:
        ProbeError: There are none.
    """
    wanted = max((run.fraction for run in runs), default=100) if fraction is None else fraction
    chosen = [run for run in runs if run.fraction == wanted]
    if not chosen:
        raise ProbeError(
            f"there are no runs on {wanted} % of the labels", where="runs", hint="Choose a fraction that was run."
        )
    return chosen


def count_runs(series: Sequence[Series]) -> str:
    """How many runs a point stands for."""
    fewest, most = min(one.scores["runs"].min() for one in series), max(one.scores["runs"].max() for one in series)
    return f"{_plural(most, 'run')} each" if fewest == most else f"{fewest} to {most} runs each"


def fit_scores(series: Sequence[Series]) -> tuple[float, float]:
    """Ends of an axis that shows all bars."""
    low, high = min(one.scores["min"].min() for one in series), max(one.scores["max"].max() for one in series)
    margin = 0.05 * (high - low) + 0.005
    return low - margin, high + margin


def _of_one_dataset(runs: Sequence[Run]) -> Run:
    """The first run, once it is certain that a figure of all of them makes sense."""
    if not runs:
        raise ProbeError("there are no runs to draw", where="runs", hint="Run at least one head.")
    if len({(run.dataset, run.scheme) for run in runs}) > 1:
        raise ProbeError(
            "a figure shows one dataset and one label scheme", where="runs", hint="Draw one figure for each dataset."
        )
    return runs[0]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _panels(series: Sequence[Series], height: float) -> tuple[Figure, list[tuple[Axes, list[Series], list[str]]]]:
    """Panels with their series and the labels of these: one panel for all or, if they are many, one for each head.

    What was trained from scratch is compared with: it is in every panel.
    """
    heads = list(dict.fromkeys(one.head for one in series if not one.is_baseline))
    if len(series) <= MOST_LINES or len(heads) < 2:
        figure = Figure(figsize=(COLUMN * 1.25, height + 1.2))
        return figure, [(figure.add_subplot(), list(series), [one.label(heads=True) for one in series])]
    rows = -(-len(heads) // 2)
    figure = Figure(figsize=(PAGE, height * rows + 0.9))
    grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(heads) :]:
        axes.remove()
    panels = []
    for axes, head in zip(grid, heads, strict=False):
        axes.set_title(head)
        axes.tick_params(labelbottom=True)
        part = [one for one in series if one.head == head or one.is_baseline]
        panels.append((axes, part, [one.label(heads=False) for one in part]))
    return figure, panels


def _draw_matrix(figure: Figure, counts: NDArray[np.int64], classes: Sequence[str]) -> None:
    axes = figure.add_subplot()
    of_class = counts.sum(axis=1, keepdims=True)
    share = np.divide(100.0 * counts, of_class, out=np.full(counts.shape, np.nan), where=of_class > 0)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(share):
        text = "-" if np.isnan(value) else f"{value:.0f} %\n{counts[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", color="white" if value > 55 else "black")
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="share of the true class, %", shrink=0.8)
