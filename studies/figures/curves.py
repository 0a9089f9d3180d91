"""Figure of fitted learning curves: scores against the number of labels, measured and beyond."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probes.plotting import (
    MARKERS,
    PAGE,
    PALETTE,
    STYLE,
    label_powers,
    legend_label,
    name_axes,
    share_legend,
    title_figure,
    wrap,
)
from probes.results.run import tell_apart
from probes.statistics.learning_curve import LearningCurve
from probes.statistics.ranking import describe_configuration
from probes.statistics.significance import METRICS

BEYOND = 4
"""Times the measured labels up to which curves are drawn."""


@mpl.rc_context(STYLE)
def fitted_curves(curves: Sequence[LearningCurve]) -> Figure:
    """A panel for each head: marks are measured means, lines the fit, dashed where extrapolated; bands its interval.

    Args:
        curves: At least one, all of one test set and metric.
    """
    one, names = curves[0], _name(curves)
    heads = list(dict.fromkeys(curve.steps[0].first.head for curve in curves))
    columns = min(len(heads), 3)
    rows = -(-len(heads) // columns)
    figure = Figure(figsize=(PAGE, 0.8 + 2.3 * rows))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    looks = dict(zip(dict.fromkeys(names), zip(cycle(PALETTE), cycle(MARKERS), strict=False), strict=False))
    for axes, head in zip(panels, heads, strict=False):
        for curve, name in zip(curves, names, strict=True):
            if curve.steps[0].first.head == head:
                _draw(axes, curve, name, *looks[name])
        axes.set_title(wrap(head, PAGE / columns - 0.5))
        axes.set_xscale("log")
        label_powers(axes.xaxis)
    for axes in panels[len(heads) :]:
        axes.remove()
    name_axes(figure, "training labels", METRICS[one.metric])
    share_legend(figure)
    subject = f"{one.steps[0].first.dataset} ({one.steps[0].first.scheme})"
    title_figure(
        figure, f"{subject}: learning curves, dashed where extrapolated; bands: {one.confidence:.0%} intervals"
    )
    return figure


def _draw(axes: Axes, curve: LearningCurve, name: str, colour: str, marker: str) -> None:
    most = curve.labels[-1]
    for start, end, dashes in ((curve.labels[0], most, "-"), (most, BEYOND * most, "--")):
        labels = np.geomspace(start, end, 60)
        value, low, high = curve.predict(labels)
        axes.plot(labels, value, color=colour, linestyle=dashes)
        axes.fill_between(labels, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.plot(curve.labels, curve.scores, color=colour, marker=marker, linestyle="", label=legend_label(name))


def _name(curves: Sequence[LearningCurve]) -> list[str]:
    """What tells the features of the curves apart; the backbone where nothing does."""
    frame = pd.DataFrame([describe_configuration(curve.steps[-1]) for curve in curves])
    told = [name for name in tell_apart(frame) if name not in ("head", "fraction")] or ["backbone"]
    return [", ".join(filter(None, row)) for row in frame[told].astype(str).to_numpy().tolist()]
