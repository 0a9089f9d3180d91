"""Figures that compare backbones on several datasets and label schemes: Figures 3 to 5 and B of the study."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from featurestore.errors import ProbeError
from probes.plotting import COLUMN, PAGE, STYLE, arrange_legend, share_legend, title_figure, wrap
from probes.results.run import Run
from studies.figures.scores import at_fraction, count_runs, fit_scores
from studies.figures.series import (
    Metric,
    Series,
    by_subject,
    count_classes,
    count_images,
    draw_dots,
    draw_lines,
    grouped_series,
    label_fractions,
    label_rows,
    macro_series,
    name_subject,
    subject_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHARE = "share of the training labels, % (number of labels)"
_NAMES = 1.6
"""Inches for the name of a row."""

_PANEL = 0.75
"""Share of its place that a panel takes; the names of the rows take the rest."""

_LEGEND_BELOW = 0.42
"""Inches from the lower edge of a panel to its legend: ticks and the name of the axis stand between them."""


@mpl.rc_context(STYLE)
def learning_curves(runs: Sequence[Run], metrics: Sequence[Metric] = ("f1",)) -> Figure:
    """Macro scores against the share of labels: a panel for each dataset and label scheme, and for each metric.

    A line is a head on features, a bar goes from min to max over seeds; dotted lines are networks from scratch.

    Args:
        runs: Runs of any datasets and label schemes.
        metrics: One, or several that stand side by side.

    Raises:
        ProbeError: No runs.
    """
    parts = _part(runs)
    columns = len(metrics) if len(metrics) > 1 else min(2, len(parts))
    rows = -(-len(parts) * len(metrics) // columns)
    figure = Figure(figsize=(PAGE if columns > 1 else COLUMN * 1.25, 2.25 * rows + 1.0))
    panels = figure.subplots(rows, columns, squeeze=False, sharey="row" if len(metrics) > 1 else False).ravel().tolist()
    drawn = {metric: macro_series(runs, metric) for metric in metrics}
    places = [(part, metric) for part in parts for metric in metrics]
    for axes, (part, metric) in zip(panels, places, strict=False):
        _draw_curves(axes, part, metric, [one for one in drawn[metric] if one.subject == subject_of(part[0])])
        axes.set_ylim(
            fit_scores([one for series in drawn.values() for one in series if one.subject == subject_of(part[0])])
        )
    for axes in panels[len(places) :]:
        axes.remove()
    share_legend(figure)
    every = [one for series in drawn.values() for one in series]
    title_figure(
        figure, f"{' and '.join(map(_macro, metrics))}: marks are means, bars min to max over {count_runs(every)}"
    )
    return figure


@mpl.rc_context(STYLE)
def class_scores(runs: Sequence[Run], fraction: int | None = None) -> Figure:
    """F1 of each class, grouped by features; a panel for each dataset and label scheme.

    Args:
        runs: Runs of any datasets and label schemes.
        fraction: Percent of the labels; None: the largest.

    Raises:
        ProbeError: No runs of that fraction.
    """
    parts = _part(at_fraction(runs, fraction))
    drawn = [(*grouped_series(part, "class"), count_classes(part[0])) for part in parts]
    return _draw_groups(drawn, [_title(part[0]) for part in parts], "F1 of the class", parts[0][0].fraction)


@mpl.rc_context(STYLE)
def scheme_scores(runs: Sequence[Run], fraction: int | None = None) -> Figure:
    """Macro-F1 of each label scheme, grouped by features; a panel for each dataset.

    Args:
        runs: Runs of several label schemes.
        fraction: Percent of the labels; None: the largest.

    Raises:
        ProbeError: No runs of that fraction, or a dataset with a single label scheme.
    """
    chosen = sorted(at_fraction(runs, fraction), key=lambda run: run.dataset)
    parts = [list(part) for _, part in groupby(chosen, key=lambda run: run.dataset)]
    drawn = []
    for part in parts:
        first = {run.scheme: run for run in reversed(part)}
        if len(first) < 2:
            raise ProbeError(
                "there is one label scheme only", where=part[0].dataset, hint="Probe the labels of another scheme too."
            )
        series, rows = grouped_series(part, "scheme")
        drawn.append((series, rows, [f"{one.name} ({len(first[one.name].classes)} classes)" for one in series]))
    titles = [f"{part[0].dataset}, {count_images(part)} test images" for part in parts]
    return _draw_groups(drawn, titles, "macro-F1", chosen[0].fraction)


def _part(runs: Sequence[Run]) -> list[list[Run]]:
    if not runs:
        raise ProbeError("there are no runs to draw", where="runs", hint="Run at least one head.")
    return by_subject(runs)


_Groups = tuple[list[Series], list[str], list[str]]
"""Series, names of the rows, labels of the series."""


def _draw_groups(drawn: Sequence[_Groups], titles: Sequence[str], metric: str, fraction: int) -> Figure:
    """A panel with a legend of its own for each group of series, two in a row."""
    columns = min(2, len(drawn))
    width = PAGE if columns > 1 else COLUMN * 1.25
    tallest = max(len(names) * (0.16 + 0.07 * len(series)) for series, names, _ in drawn)
    rows = -(-len(drawn) // columns)
    legends = max(arrange_legend(labels, width / columns * _PANEL).height for _, _, labels in drawn)
    figure = Figure(figsize=(width, (tallest + legends + 1.0) * rows))
    same = all(names == drawn[0][1] for _, names, _ in drawn)
    panels: list[Axes] = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=same).ravel().tolist()
    for axes in panels[len(drawn) :]:
        axes.remove()
    for axes, title, (series, names, labels) in zip(panels, titles, drawn, strict=False):
        draw_dots(axes, series, labels)
        label_rows(axes, [wrap(name, _NAMES) for name in names])
        axes.set(title=title, xlabel=metric)
        axes.tick_params(labelbottom=True)
        _separate_rows(axes, len(names))
        _put_legend_below(axes, labels, width / columns * _PANEL)
    every = [one for series, _, _ in drawn for one in series]
    panels[0].set_xlim(fit_scores(every))
    title_figure(
        figure, f"{metric}, {fraction} % of the labels\ndots are means, bars min to max over {count_runs(every)}"
    )
    return figure


def _separate_rows(axes: Axes, n_rows: int) -> None:
    axes.grid(visible=False, axis="y")
    for edge in range(1, n_rows):
        axes.axhline(edge - 0.5, color=mpl.rcParams["grid.color"], linewidth=mpl.rcParams["grid.linewidth"])


def _put_legend_below(axes: Axes, labels: Sequence[str], width: float) -> None:
    """A legend as wide as `width` inches below a panel."""
    below = axes.transAxes + ScaledTranslation(0, -_LEGEND_BELOW, axes.figure.dpi_scale_trans)
    names, columns, _ = arrange_legend(labels, width)
    handles, _ = axes.get_legend_handles_labels()
    axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, ncols=columns)


def _draw_curves(axes: Axes, runs: Sequence[Run], metric: Metric, series: Sequence[Series]) -> None:
    heads = len({one.head for one in series if not one.is_baseline}) > 1
    draw_lines(axes, series, [one.label(heads=heads) for one in series])
    label_fractions(axes, runs)
    axes.set_title(_title(runs[0]))
    axes.set(xlabel=_SHARE, ylabel=_macro(metric))


def _title(run: Run) -> str:
    return f"{name_subject(run)}\n{len(run.truth):,} test images"


def _macro(metric: Metric) -> str:
    return f"macro-{'F1' if metric == 'f1' else metric}"
