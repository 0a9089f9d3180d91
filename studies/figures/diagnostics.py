"""Figures of the diagnostics: the rank spectrum, heat maps, the contact sheet. None touches pyplot or a display."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle, product
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from probes.plotting import COLUMN, DASHES, PAGE, PALETTE, STYLE, draw_picture, legend_label, title_figure

TILES = 6
"""Images in a row of a contact sheet: three pairs."""


@mpl.rc_context(STYLE)
def rank_spectrum(shares: Mapping[str, NDArray[np.float64]], ranks: Mapping[str, float], title: str) -> Figure:
    """Singular values as shares of their sum, a line for each feature matrix; a tick marks its effective rank.

    Args:
        shares: Name -> shares, the largest first.
        ranks: Name -> effective rank.
        title: What was looked at.
    """
    figure = Figure(figsize=(COLUMN * 1.25, 2.6 + 0.15 * len(shares)))
    axes = figure.add_subplot()
    for (name, values), (dashes, colour) in zip(shares.items(), cycle(product(DASHES, PALETTE)), strict=False):
        positive = values[values > 0]
        axes.plot(
            np.arange(1, len(positive) + 1),
            positive,
            color=colour,
            ls=dashes,
            label=legend_label(f"{name}: {ranks[name]:.1f}"),
        )
        axes.axvline(max(ranks[name], 1), ymax=0.06, color=colour, ls=dashes)
    axes.set(xscale="log", yscale="log", xlabel="component", ylabel="share of the sum of singular values")
    figure.legend(loc="outside lower center", title="effective rank")
    title_figure(figure, title)
    return figure


@mpl.rc_context(STYLE)
def heat_map(cells: pd.DataFrame, label: str, title: str) -> Figure:
    """Numbers between 0 and 1 as colours, each with its value; NaN is a dash.

    Args:
        cells: Names of rows and columns, and the values.
        label: What the values are.
        title: What was looked at.
    """
    values = cells.to_numpy(dtype=np.float64)
    rows, columns = values.shape
    figure = Figure(figsize=(min(PAGE, 2.2 + 0.55 * columns), 1.6 + 0.34 * rows))
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = "-" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, text, ha="center", va="center", color="black" if value > 0.5 else "white")
    axes.set_xticks(range(columns), list(cells.columns), rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(rows), list(cells.index))
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label=label)
    title_figure(figure, title)
    return figure


@mpl.rc_context(STYLE)
def flagged_sheet(flagged: pd.DataFrame, read: Callable[[str], NDArray[Any]], title: str) -> Figure:
    """The images of some flagged samples: pairs side by side, outliers alone.

    Args:
        flagged: At least one line of `probes.diagnostics.flagged.list_flagged`.
        read: From a sample id to its picture, uint8 (H, W, 3).
        title: What was looked at.
    """
    places = _place(flagged)
    rows = places[-1][0] // TILES + 1
    figure = Figure(figsize=(PAGE, 1.55 * rows + 0.4))
    for place, line in places:
        first = figure.add_subplot(rows, TILES, place + 1)
        told = f"{line['reason']} {line['value']:.4g}"
        draw_picture(first, read(line["sample_id"]), f"{told}\n{_shorten(line['sample_id'])}")
        if line["other_id"]:
            other = figure.add_subplot(rows, TILES, place + 2)
            told = f"{line['part']} | {line['other_part']}"
            draw_picture(other, read(line["other_id"]), f"{told}\n{_shorten(line['other_id'])}")
    title_figure(figure, title)
    return figure


def _place(flagged: pd.DataFrame) -> list[tuple[int, dict[str, Any]]]:
    """Each line with its first tile; a pair never crosses the end of a row."""
    places, tile = [], 0
    for line in flagged.to_dict("records"):
        width = 2 if line["other_id"] else 1
        if tile % TILES + width > TILES:
            tile += TILES - tile % TILES
        places.append((tile, {str(name): value for name, value in line.items()}))
        tile += width
    return places


def _shorten(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"...{name[-most:]}"
