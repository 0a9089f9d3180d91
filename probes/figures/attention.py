"""Figures 6 and A of the study: attention as contours on the images, by backbone, and by block and head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurestore.errors import ProbeError, UsageError
from probes.attention import Attention
from probes.figures.style import PAGE, PALETTE, STYLE, title_figure, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PERCENTILE = 90.0
"""Contours enclose the tenth of the image that is attended to most, as in the study."""

QUERIES = {"cls": "class token", "patches": "mean of patches"}

_SHARE = 0.95
"""Side of a panel, of the distance between panels."""

_LARGEST = 1.2
"""Distance of panels at most, in inches."""

_LABELS = 1.1
"""Width that is left to the names of rows, in inches."""


@mpl.rc_context(STYLE)
def backbone_grid(found: Sequence[Attention], percentile: float = PERCENTILE) -> Figure:
    """Figure 6: images from top to bottom, backbones side by side; last block or attention pool, mean over heads.

    Args:
        found: One for each backbone, over the same images of one dataset.
        percentile: Percentile of the map, on the pixels of the image, at which its contour is drawn.

    Raises:
        ProbeError: There are none, or they show different images.
        UsageError: A percentile that is not between 0 and 100.
    """
    _check(percentile)
    if len({one.sample_ids for one in found}) != 1:
        raise ProbeError(
            "the maps of the backbones are not over the same images",
            where=", ".join(one.backbone for one in found) or "no maps",
            hint="Draw the same samples with the same seed for all.",
        )
    first = found[0]
    rows = [first.name(row) for row in range(len(first.sample_ids))]
    axes, size = _make_axes(rows, [f"{one.backbone}, {_describe(one)}" for one in found])
    for column, one in enumerate(found):
        for row, (picture, values) in enumerate(zip(one.pictures, one.last, strict=True)):
            _draw_panel(axes, picture, values, (row, column), percentile)
    return _finish(axes, (len(rows), len(found)), size, f"{first.dataset}, {first.variant}: attention by backbone")


@mpl.rc_context(STYLE)
def head_grid(attention: Attention, row: int = 0, percentile: float = PERCENTILE) -> Figure:
    """Figure A: one image, blocks from top to bottom and heads side by side, their mean, and the rollout.

    Args:
        attention: Of one backbone.
        row: The image.
        percentile: As of `backbone_grid`.

    Raises:
        UsageError: A percentile that is not between 0 and 100.
    """
    _check(percentile)
    layers = {f"block {number}": maps for number, maps in enumerate(attention.blocks[row], start=1)}
    if attention.has_latent:
        layers["attention pool"] = attention.pooled[row]
    n_heads = max(map(len, layers.values()))
    columns = [*(f"{head}" for head in range(1, n_heads + 1)), "mean"]
    axes, size = _make_axes([*layers, "rollout"], columns)
    panels = {(place, head): one for place, maps in enumerate(layers.values()) for head, one in enumerate(maps)}
    panels |= {(place, n_heads): maps.mean(axis=0) for place, maps in enumerate(layers.values())}
    panels[len(layers), n_heads] = attention.rollout[row]
    for place, values in panels.items():
        _draw_panel(axes, attention.pictures[row], values, place, percentile)
    axes.set_xlabel("head")
    axes.xaxis.set_label_position("top")
    title = f"{attention.backbone}, {attention.dataset}: {attention.sample_ids[row]}"
    return _finish(axes, (len(layers) + 1, len(columns)), size, title)


def upsample(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear, float64 of a shape (H, W), from patches (h, w) whose centres lie in the middle of what they cover."""
    from scipy.ndimage import map_coordinates

    centres = [(np.arange(to) + 0.5) * of / to - 0.5 for to, of in zip(shape, values.shape, strict=True)]
    found = map_coordinates(values.astype(np.float64), np.meshgrid(*centres, indexing="ij"), order=1, mode="nearest")
    return np.asarray(found)


def _check(percentile: float) -> None:
    if not 0 < percentile < 100:
        raise UsageError(
            "a percentile lies between 0 and 100", where=f"percentile={percentile:g}", hint="The study took 90."
        )


def _describe(attention: Attention) -> str:
    return "latent query" if attention.has_latent else QUERIES[attention.query]


def _make_axes(rows: Sequence[str], columns: Sequence[str]) -> tuple[Axes, float]:
    """Axes on which panels stand at whole numbers, and their distance in inches."""
    size = min(_LARGEST, (PAGE - _LABELS) / len(columns))
    axes = Figure().add_subplot()
    axes.set_xticks(np.arange(len(columns)) + _SHARE / 2, [wrap(name, size * _SHARE, "small") for name in columns])
    axes.set_yticks(np.arange(len(rows)) + _SHARE / 2, [wrap(name, _LABELS, "small") for name in rows])
    axes.tick_params(length=0, labelsize="small", top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    return axes, size


def _draw_panel(
    axes: Axes, picture: NDArray[np.uint8], values: NDArray[np.float32], place: tuple[int, int], percentile: float
) -> None:
    """An image and the contour of a map over it; a map without a level inside its range has none."""
    top, left = place
    axes.imshow(picture, extent=(left, left + _SHARE, top + _SHARE, top), interpolation="nearest")
    height, width = picture.shape[:2]
    smooth = upsample(values, (height, width))
    level = np.percentile(smooth, percentile)
    if smooth.min() < level < smooth.max():
        x, y = ((np.arange(n) + 0.5) / n * _SHARE + start for n, start in ((width, left), (height, top)))
        axes.contour(x, y, smooth, levels=[level], colors=PALETTE[1], linewidths=0.8)


def _finish(axes: Axes, shape: tuple[int, int], size: float, title: str) -> Figure:
    """Set limits and size, which drawing has moved."""
    rows, columns = shape
    axes.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
    figure = axes.figure
    assert isinstance(figure, Figure)  # noqa: S101 (it was made here)
    figure.set_size_inches(min(PAGE, columns * size + _LABELS), rows * size + 1.0)
    title_figure(figure, title)
    return figure
