"""Figures of the latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurestore.errors import ProbeError
from featurestore.samples import UNLABELLED
from probes.figures.style import COLUMN, MARKERS, PAGE, PALETTE, STYLE, UNLABELLED_COLOUR, share_legend
from probes.projection import balanced_sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    share_legend(figure, markerscale=3)
    figure.suptitle(f"{dataset}: UMAP of the principal components")
    return figure


def describe_sample(labels: NDArray[np.int64], shown: NDArray[np.int64]) -> str:
    """What part of the rows a panel shows."""
    if len(shown) == len(labels):
        return f"all {len(labels):,} images"
    size = np.bincount(labels[shown] - UNLABELLED).max()
    return f"class-balanced sample, {size:,} a class"


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
