"""Figure 1 of the study: random images of each dataset, one of them unstretched, and the histogram of raw values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from featurestore.errors import ProbeError
from featurestore.samples import UNLABELLED
from probes.plotting import PAGE, PALETTE, STYLE, draw_picture, label_powers, title_figure, wrap
from studies.images.gallery import Gallery

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

    from studies.images.histogram import Histogram

MOST_COLUMNS = 6
"""Images side by side; further classes begin a new row."""

_IMAGES, _RAW, _HISTOGRAM = 4.0, 1.0, 2.0
"""Widths of the grid of images, of the unstretched image, and of the histogram with its labels, in inches."""

_UNIT = (0.0, 1.0, 1.0, 0.0)
"""Boxes are shares of the side."""

_FEWEST_COLUMNS = 4
"""With fewer columns than this, images are not made larger."""


@mpl.rc_context(STYLE)
def sample_grid(galleries: Sequence[Gallery]) -> Figure:
    """Images by class, an unstretched image, and the histogram of raw values; datasets from top to bottom.

    Boxes are white. Negative values of a single band have a colour of their own.

    Args:
        galleries: One for each dataset.

    Raises:
        ProbeError: No galleries.
    """
    if not galleries:
        raise ProbeError("there are no images to draw", where="galleries", hint="Give at least one gallery.")
    grids = [_arrange(gallery) for gallery in galleries]
    sides = [_IMAGES / max(grid.shape[1], _FEWEST_COLUMNS) for grid in grids]
    heights = [max(len(grid) * side + 0.6, 1.75) for grid, side in zip(grids, sides, strict=True)]
    figure = Figure(figsize=(PAGE, sum(heights) + 0.35))
    parts = figure.subfigures(len(galleries), 1, squeeze=False, height_ratios=heights).ravel()
    for part, gallery, grid, side in zip(parts, galleries, grids, sides, strict=True):
        _draw_gallery(part, gallery, grid, side)
    title_figure(figure, "Random images, one without a stretch, and the raw pixel values of them all")
    return figure


def describe_range(histogram: Histogram) -> str:
    """The dynamic range in words."""
    lost = f"; {histogram.n_invalid:,} pixels are not finite" if histogram.n_invalid else ""
    return f"{histogram.decades:.1f} decades above the noise{lost}"


def _arrange(gallery: Gallery) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Places of the pictures in a grid, int64 (rows, columns), -1 where there is none: a column for each class."""
    present = np.unique(gallery.labels)
    if present.tolist() == [UNLABELLED]:
        places = np.arange(len(gallery.labels))
        rows = -(-len(places) // MOST_COLUMNS)
        return np.pad(places, (0, rows * MOST_COLUMNS - len(places)), constant_values=-1).reshape(rows, MOST_COLUMNS)
    columns = [np.flatnonzero(gallery.labels == label) for label in present]
    tallest = max(map(len, columns))
    grid = np.stack([np.pad(one, (0, tallest - len(one)), constant_values=-1) for one in columns], axis=1)
    blocks = [grid[:, start : start + MOST_COLUMNS] for start in range(0, grid.shape[1], MOST_COLUMNS)]
    width = blocks[0].shape[1]
    return np.concatenate([np.pad(b, ((0, 0), (0, width - b.shape[1])), constant_values=-1) for b in blocks])


def _draw_gallery(
    part: SubFigure, gallery: Gallery, grid: np.ndarray[tuple[int, ...], np.dtype[np.int64]], side: float
) -> None:
    columns = grid.shape[1]
    widths = [side] * columns + [_RAW, _HISTOGRAM + _IMAGES - side * columns]
    layout = part.add_gridspec(len(grid), len(widths), width_ratios=widths)
    for (row, column), place in np.ndenumerate(grid):
        if place >= 0:
            above = row == 0 or gallery.labels[grid[row - 1, column]] != gallery.labels[place]
            axes = part.add_subplot(layout[row, column])
            draw_picture(axes, gallery.pictures[place], extent=_UNIT)
            _draw_boxes(axes, gallery, int(place))
            if above and gallery.labels[place] != UNLABELLED:
                axes.set_title(wrap(gallery.classes[gallery.labels[place]], side, "small"), fontsize="small")
    raw = part.add_subplot(layout[:, columns])
    draw_picture(raw, gallery.raw, extent=_UNIT)
    raw.set_title("unstretched", fontsize="small")
    _draw_histogram(part.add_subplot(layout[:, columns + 1]), gallery.histogram)
    scheme = f" ({gallery.scheme})" if gallery.scheme else ""
    shown = f"{len(gallery.labels)} of {gallery.n_images:,} images"
    part.suptitle(f"{gallery.dataset}{scheme}, {gallery.variant}: {shown}")


def _draw_boxes(axes: Axes, gallery: Gallery, place: int) -> None:
    for x0, y0, x1, y1 in gallery.boxes[gallery.box_rows == place]:
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="white", linewidth=0.7))


def _draw_histogram(axes: Axes, histogram: Histogram) -> None:
    edges, counts = histogram.edges, histogram.counts
    if len(counts) == 1:
        negative = edges[:-1] + edges[1:] < 0  # the centre of the bin
        axes.stairs(np.where(negative, 0, counts[0]), edges, fill=True, color=PALETTE[0])
        axes.stairs(np.where(negative, counts[0], 0), edges, fill=True, color=PALETTE[1])
    else:
        for band, (values, colour) in enumerate(zip(counts, PALETTE, strict=False)):
            axes.stairs(values, edges, color=colour, label=f"band {band}", linewidth=1.0)
        axes.legend(fontsize="small", handlelength=1.0)
    axes.set_yscale("log")
    axes.set_ylim(0.7, counts.max() * 2)
    label_powers(axes.yaxis)
    if histogram.is_logarithmic:
        axes.set_xscale("asinh", linear_width=histogram.noise)
        axes.set_xticks(_decade_ticks(histogram))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(edges[0], edges[-1])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_title(wrap(describe_range(histogram), 0.8 * _HISTOGRAM, "small"), fontsize="small")
    axes.set_xlabel("raw pixel value", fontsize="small")
    axes.set_ylabel("pixels", fontsize="small")
    axes.tick_params(labelsize="small")


def _decade_ticks(histogram: Histogram) -> list[float]:
    """Zero, and powers of ten clear of the noise: two on the side that reaches farther, one on the other."""
    low, high = histogram.edges[0], histogram.edges[-1]
    first = np.ceil(np.log10(3 * histogram.noise))
    ticks = [0.0]
    for sign, end in ((1.0, high), (-1.0, -low)):
        last = np.floor(np.log10(max(end, histogram.noise)))
        powers = {last, np.floor((first + last) / 2)} if end == max(high, -low) else {last}
        ticks += [sign * 10.0**power for power in powers if power >= first]
    return sorted(ticks)
