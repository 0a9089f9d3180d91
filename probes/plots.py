"""The figures of the study. Each function returns a matplotlib Figure; none touches pyplot or a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurestore.atomic_file import write_atomically
from featurestore.errors import ProbeError
from featurestore.samples import UNLABELLED
from probes.projection import balanced_sample
from probes.results import COMPARED, Run
from probes.series import (
    MARKERS,
    PALETTE,
    Series,
    class_series,
    draw_dots,
    draw_lines,
    label_classes,
    label_fractions,
    macro_series,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

STYLE: dict[RcKeyType, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.titlesize": "medium",
    "font.size": 8,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "svg.hashsalt": "skyprobe",
    "text.parse_math": False,  # a dollar in the name of a class is a dollar
}
"""One style for all figures; the salt makes equal figures equal files."""

UNLABELLED_COLOUR = "#b8b8b8"

COLUMN, PAGE = 3.46, 7.09
"""Widths of a column and a page of Astronomy & Astrophysics, in inches (88 and 180 mm)."""

MOST_LINES = 6
"""With more lines than this, a figure has one panel for each head."""

_METADATA: dict[str, dict[str, str | None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
"""Formats, and what must be left out of each so that equal figures are equal files."""


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
    low, high = min(one.scores["min"].min() for one in series), max(one.scores["max"].max() for one in series)
    panels[0][0].set_ylim(low - 0.05 * (high - low) - 0.005, high + 0.05 * (high - low) + 0.005)
    _name_axes(figure, "share of the training labels, % (number of labels)", "macro-F1 (mean; bars: min to max)")
    _share_legend(figure)
    figure.suptitle(f"{_subject(first)}: macro-F1\non {len(first.truth):,} test images, {_count_runs(series)}")
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
    chosen = _at_fraction(runs, fraction)
    first = _of_one_dataset(chosen)
    series = class_series(chosen)
    figure, panels = _panels(series, height=0.6 + 0.4 * len(first.classes))
    for axes, part, labels in panels:
        draw_dots(axes, part, labels)
        label_classes(axes, first)
    _name_axes(figure, "F1 (dot: mean; bar: min to max)", "class (test images)")
    _share_legend(figure)
    figure.suptitle(
        f"{_subject(first)}: F1 by class, {first.fraction} % of the labels\n"
        f"on {len(first.truth):,} test images, {_count_runs(series)}"
    )
    return figure


@mpl.rc_context(STYLE)
def confusion(runs: Sequence[Run]) -> Figure:
    """Confusion matrix of one head at its largest share of labels, summed over seeds, in percent of the true class.

    Raises:
        ProbeError: No runs, or runs of more than one head or of several features.
    """
    chosen = _at_fraction(runs, None)
    if len({tuple(getattr(run, name) for name in COMPARED) for run in chosen}) > 1:
        raise ProbeError("a confusion matrix shows one head", where="runs", hint="Give the runs of one head only.")
    first, counts = chosen[0], confusion_counts(chosen)
    side = max(COLUMN, 1.3 + 0.62 * len(first.classes))
    figure = Figure(figsize=(side + 0.5, side))
    _draw_matrix(figure, counts, first.classes)
    figure.suptitle(
        f"{_subject(first)}: {first.head} on {first.backbone}, {first.variant}\n"
        f"{first.fraction} % of the labels, {len(first.truth):,} test images, {_plural(len(chosen), 'run')} summed"
    )
    return figure


@mpl.rc_context(STYLE)
def umap_panels(
    projections: Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]]],
    classes: Sequence[str],
    *,
    dataset: str,
    seed: int = 0,
) -> Figure:
    """UMAP coordinates coloured by class, one panel for each feature matrix; rows without a label are grey.

    An unbalanced set is shown by a class-balanced random sample, and the panel says so.

    Args:
        projections: Title of the panel -> coordinates (n, 2) and labels (n,).
        classes: Class names.
        dataset: Name of the dataset.
        seed: Seed of the sample.

    Raises:
        ProbeError: No projections.
    """
    if not projections:
        raise ProbeError("there is no projection to draw", where=dataset, hint="Project at least one feature matrix.")
    columns = min(len(projections), 3)
    rows = -(-len(projections) // columns)
    figure = Figure(figsize=({1: COLUMN * 1.1, 2: PAGE * 0.8, 3: PAGE}[columns], 2.5 * rows + 0.9))
    for index, (title, (xy, labels)) in enumerate(projections.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        shown = balanced_sample(labels, seed)
        _draw_points(axes, xy[shown], labels[shown], classes)
        axes.set_title(f"{title}\n{describe_sample(labels, shown)}")
    _share_legend(figure, markerscale=3)
    figure.suptitle(f"{dataset}: UMAP of the principal components")
    return figure


def save_figure(figure: Figure, folder: Path, name: str) -> dict[str, Path]:
    """Write a figure as PDF and SVG (vectors) and PNG; equal figures give equal files.

    Returns:
        Format -> path.

    Raises:
        StoreWriteError: The folder cannot be written.
    """
    return {kind: _save(figure, folder / f"{name}.{kind}", kind) for kind in _METADATA}


def write_figure(figure: Figure, target: Path | BinaryIO, kind: str) -> None:
    """Write a figure in one format: ``pdf``, ``svg`` or ``png``."""
    with mpl.rc_context(STYLE):
        figure.savefig(target, format=kind, metadata=_METADATA[kind])


def confusion_counts(runs: Sequence[Run]) -> NDArray[np.int64]:
    """Test rows by true and predicted class, summed over runs of equal classes; int64 (n_classes, n_classes)."""
    counts = np.zeros((len(runs[0].classes),) * 2, dtype=np.int64)
    for run in runs:
        np.add.at(counts, (run.truth, run.predicted), 1)
    return counts


def describe_sample(labels: NDArray[np.int64], shown: NDArray[np.int64]) -> str:
    """What part of the rows a panel shows."""
    if len(shown) == len(labels):
        return f"all {len(labels):,} images"
    size = np.bincount(labels[shown] - UNLABELLED).max()
    return f"class-balanced sample, {size:,} a class"


def _save(figure: Figure, path: Path, kind: str) -> Path:
    return write_atomically(path, lambda part: write_figure(figure, part, kind))


def _of_one_dataset(runs: Sequence[Run]) -> Run:
    """The first run, once it is certain that a figure of all of them makes sense."""
    if not runs:
        raise ProbeError("there are no runs to draw", where="runs", hint="Run at least one head.")
    if len({(run.dataset, run.scheme) for run in runs}) > 1:
        raise ProbeError(
            "a figure shows one dataset and one label scheme", where="runs", hint="Draw one figure for each dataset."
        )
    return runs[0]


def _at_fraction(runs: Sequence[Run], fraction: int | None) -> list[Run]:
    wanted = max((run.fraction for run in runs), default=100) if fraction is None else fraction
    chosen = [run for run in runs if run.fraction == wanted]
    if not chosen:
        raise ProbeError(
            f"there are no runs on {wanted} % of the labels", where="runs", hint="Choose a fraction that was run."
        )
    return chosen


def _subject(run: Run) -> str:
    return f"{run.dataset} ({run.scheme})"


def _count_runs(series: Sequence[Series]) -> str:
    fewest, most = min(one.scores["runs"].min() for one in series), max(one.scores["runs"].max() for one in series)
    return f"{_plural(most, 'run')} each" if fewest == most else f"{fewest} to {most} runs each"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _panels(series: Sequence[Series], height: float) -> tuple[Figure, list[tuple[Axes, list[Series], list[str]]]]:
    """Panels with their series and the labels of these: one panel for all or, if they are many, one for each head."""
    heads = list(dict.fromkeys(one.head for one in series))
    if len(series) <= MOST_LINES or len(heads) == 1:
        figure = Figure(figsize=(COLUMN * 1.25, height + 1.2))
        return figure, [(figure.add_subplot(), list(series), [f"{one.name}, {one.head}" for one in series])]
    rows = -(-len(heads) // 2)
    figure = Figure(figsize=(PAGE, height * rows + 0.9))
    grid = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in grid[len(heads) :]:
        axes.remove()
    panels = []
    for axes, head in zip(grid, heads, strict=False):
        axes.set_title(head)
        axes.tick_params(labelbottom=True)
        part = [one for one in series if one.head == head]
        panels.append((axes, part, [one.name for one in part]))
    return figure, panels


def _name_axes(figure: Figure, x: str, y: str) -> None:
    """Names below every panel, and beside those of the first column."""
    for axes in figure.axes:
        axes.set_xlabel(x)
        place = axes.get_subplotspec()
        if place is not None and place.is_first_col():
            axes.set_ylabel(y)


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


def _draw_points(axes: Axes, xy: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    groups = [(i, name, PALETTE[i % len(PALETTE)], MARKERS[i // len(PALETTE) % len(MARKERS)], 2.0)
              for i, name in enumerate(classes)]  # fmt: skip
    for label, name, colour, marker, order in [*groups, (UNLABELLED, "no label", UNLABELLED_COLOUR, "o", 1.0)]:
        x, y = xy[labels == label].T
        if len(x):
            axes.scatter(
                x, y, s=4, c=colour, marker=marker, alpha=0.7, linewidths=0, label=name, rasterized=True, zorder=order
            )
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")


def _share_legend(figure: Figure, markerscale: float = 1.0) -> None:
    """One legend below all panels, each entry once."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    rows = -(-len(entries) // (4 if figure.get_figwidth() > PAGE * 0.7 else 2))
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=-(-len(entries) // rows),
        markerscale=markerscale,
    )  # fmt: skip
