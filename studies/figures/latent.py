"""Figures of the latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from featurestore.errors import ProbeError
from featurestore.samples import UNLABELLED
from probes.plotting import (
    COLUMN,
    MARKERS,
    PAGE,
    PALETTE,
    STYLE,
    UNLABELLED_COLOUR,
    arrange_legend,
    legend_label,
    share_legend,
    title_figure,
    wrap,
)
from probes.projection import balanced_sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Points = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Coordinates (n, 2) and labels (n,) of one feature matrix."""

MOST_COLUMNS = 6
"""Panels side by side on a page, as many as the study has backbones."""


class LatentSpace(NamedTuple):
    """One dataset of a grid.

    Attributes:
        title: Dataset and label scheme.
        classes: Class names.
        panels: Name of the features -> points.
    """

    title: str
    classes: Sequence[str]
    panels: Mapping[str, Points]


@mpl.rc_context(STYLE)
def umap_grid(spaces: Sequence[LatentSpace], seed: int = 0) -> Figure:
    """UMAP coordinates coloured by class, datasets from top to bottom, features from left to right (Figure 2).

    Each dataset has one legend. An unbalanced set is shown by a class-balanced random sample, and its title says so.

    Args:
        spaces: The datasets.
        seed: Seed of the samples.

    Raises:
        ProbeError: No projections.
    """
    if not spaces or not all(space.panels for space in spaces):
        raise ProbeError("there is no projection to draw", where="grid", hint="Project at least one feature matrix.")
    columns = min(MOST_COLUMNS, max(len(space.panels) for space in spaces))
    lines = [-(-len(space.panels) // columns) for space in spaces]
    side = PAGE / max(columns, 2)
    legends = [arrange_legend([*space.classes, "no label"], side * columns).height for space in spaces]
    heights = [count * (side + 0.2) + legend + 0.45 for count, legend in zip(lines, legends, strict=True)]
    figure = Figure(figsize=(side * columns, sum(heights) + 0.4))
    parts = figure.subfigures(len(spaces), 1, squeeze=False, height_ratios=heights).ravel()
    for part, space, rows in zip(parts, spaces, lines, strict=True):
        _draw_row(part, space, rows, columns, seed)
    title_figure(figure, "UMAP of the principal components")
    return figure


@mpl.rc_context(STYLE)
def umap_panels(
    projections: Mapping[str, Points],
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
    share_legend(figure, markerscale=3)
    title_figure(figure, f"{dataset}: UMAP of the principal components")
    return figure


def describe_sample(labels: NDArray[np.int64], shown: NDArray[np.int64]) -> str:
    """What part of the rows a panel shows."""
    if len(shown) == len(labels):
        return f"all {len(labels):,} images"
    size = np.bincount(labels[shown] - UNLABELLED).max()
    return f"class-balanced sample, {size:,} a class"


def _draw_row(part: SubFigure, space: LatentSpace, rows: int, columns: int, seed: int) -> None:
    shares = set()
    for index, (name, (xy, labels)) in enumerate(space.panels.items()):
        axes = part.add_subplot(rows, columns, index + 1)
        shown = balanced_sample(labels, seed)
        shares.add(describe_sample(labels, shown))
        _draw_points(axes, xy[shown], labels[shown], space.classes)
        axes.set(xlabel="", ylabel="")
        axes.set_title(wrap(name, part.bbox.width / part.figure.dpi / columns, "small"), fontsize="small")
    share_legend(part, markerscale=3)
    part.suptitle(f"{space.title}: {', '.join(sorted(shares))}")


def _draw_points(axes: Axes, xy: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    groups = [(i, name, PALETTE[i % len(PALETTE)], MARKERS[i // len(PALETTE) % len(MARKERS)], 2.0)
              for i, name in enumerate(classes)]  # fmt: skip
    size = float(np.clip(4000 / max(1, len(xy)), 0.8, 4))  # many points are small, or the last class hides all
    for label, name, colour, marker, order in [*groups, (UNLABELLED, "no label", UNLABELLED_COLOUR, "o", 1.0)]:
        x, y = xy[labels == label].T
        if len(x):
            look: dict[str, Any] = {"c": colour, "marker": marker, "s": size, "alpha": 0.7, "linewidths": 0}
            axes.scatter(x, y, label=legend_label(name), rasterized=True, zorder=order, **look)
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
