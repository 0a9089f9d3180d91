"""Figures 6 and A of the study: attention as contours on the images, by backbone, and by block and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurestore.errors import ProbeError, UsageError
from probes.plotting import PAGE, PALETTE, STYLE, title_figure, wrap
from studies.images.attention import Attention

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


class _Panel(NamedTuple):
    """uint8 (S, S, 3) and float32 (h, w)."""

    picture: NDArray[np.uint8]
    values: NDArray[np.float32]


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
    columns = [f"{one.backbone}, {_describe(one)}" for one in found]
    panels = {
        (row, column): _Panel(one.pictures[row], one.last[row])
        for column, one in enumerate(found)
        for row in range(len(rows))
    }
    return _draw_grid(panels, rows, columns, percentile, f"{first.dataset}, {first.variant}: attention by backbone")


@mpl.rc_context(STYLE)
def head_grid(attention: Attention, row: int = 0, percentile: float = PERCENTILE) -> Figure:
    """Figure A: one image, blocks from top to bottom and heads side by side, their mean, and the rollout.

    Args:
        attention: Of one backbone.
        row: The image.
        percentile: See `backbone_grid`.

    Raises:
        UsageError: A percentile that is not between 0 and 100.
    """
    _check(percentile)
    layers = {f"block {number}": maps for number, maps in enumerate(attention.blocks[row], start=1)}
    if attention.has_latent:
        layers["attention pool"] = attention.pooled[row]
    n_heads = max(map(len, layers.values()))
    maps = {(place, head): one for place, of_layer in enumerate(layers.values()) for head, one in enumerate(of_layer)}
    maps |= {(place, n_heads): of_layer.mean(axis=0) for place, of_layer in enumerate(layers.values())}
    maps[len(layers), n_heads] = attention.rollout[row]
    panels = {place: _Panel(attention.pictures[row], one) for place, one in maps.items()}
    columns = [*(f"{head}" for head in range(1, n_heads + 1)), "mean"]
    title = f"{attention.backbone}, {attention.dataset}: {attention.sample_ids[row]}"
    return _draw_grid(panels, [*layers, "rollout"], columns, percentile, f"{title}, blocks and heads")


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


def _draw_grid(
    panels: Mapping[tuple[int, int], _Panel], rows: Sequence[str], columns: Sequence[str], percentile: float, title: str
) -> Figure:
    """Panels by row and column, at whole numbers of one pair of axes: a hundred axes would take a minute."""
    side = len(next(iter(panels.values())).picture)
    pitch = round(side / _SHARE)
    canvas = np.full((len(rows) * pitch, len(columns) * pitch, 3), 255, dtype=np.uint8)
    size = min(_LARGEST, (PAGE - _LABELS) / len(columns))
    figure = Figure(figsize=(len(columns) * size + _LABELS, len(rows) * size + 1.0))
    axes = figure.add_subplot()
    for (row, column), panel in panels.items():
        canvas[row * pitch : row * pitch + side, column * pitch : column * pitch + side] = panel.picture
        _draw_contour(axes, panel.values, (row, column), side, pitch, percentile)
    axes.imshow(canvas, extent=(0, len(columns), len(rows), 0))
    middle = side / pitch / 2
    axes.set_xticks(np.arange(len(columns)) + middle, [wrap(name, size * _SHARE, "small") for name in columns])
    axes.set_yticks(np.arange(len(rows)) + middle, [wrap(name, _LABELS, "small") for name in rows])
    axes.tick_params(length=0, labelsize="small", top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    title_figure(figure, title)
    return figure


def _draw_contour(
    axes: Axes, values: NDArray[np.float32], place: tuple[int, int], side: int, pitch: int, percentile: float
) -> None:
    """The contour of a map over its image; a map without a level inside its range has none."""
    smooth = upsample(values, (side, side))
    level = np.percentile(smooth, percentile)
    if smooth.min() < level < smooth.max():
        top, left = place
        centres = (np.arange(side) + 0.5) / pitch
        axes.contour(left + centres, top + centres, smooth, levels=[level], colors=PALETTE[1], linewidths=0.8)
