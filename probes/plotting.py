"""One style for all figures: colours, widths, legends, and the files that figures are saved to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import font_scalings
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from featurestore.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.typing import RcKeyType

Extent = tuple[float, float, float, float]

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
    "savefig.dpi": 300,
    "svg.hashsalt": "skyprobe",
    "text.parse_math": False,  # a dollar in the name of a class is a dollar
}
"""One style for all figures; the salt makes equal figures equal files."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
"""Colours that colour-blind readers can tell apart (Okabe & Ito 2008, Color Universal Design)."""

MARKERS = ("o", "s", "D", "^", "v", "P")
FILLS = ("full", "none", "left", "right", "top", "bottom")
DASHES = ("-", "--", "-.", ":")
UNLABELLED_COLOUR = "#b8b8b8"

BASELINE: dict[str, Any] = {"color": "#4d4d4d", "linestyle": (0, (1, 1)), "linewidth": 1.8, "markerfacecolor": "white"}
"""Look of what a figure compares with: a network trained from scratch."""

COLUMN, PAGE = 3.46, 7.09
"""Widths of a column and a page of Astronomy & Astrophysics, in inches (88 and 180 mm)."""

_LETTER, _HANDLE = 0.55, 5.0
"""Widths of a letter and of a legend's handle with the gaps around it, in heights of a letter; a little too large."""

_LEGEND = 0.5
"""Height of a legend that a figure has room for anyway, in inches."""

_METADATA: dict[str, dict[str, str | None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
"""Formats, and what must be left out of each so that equal figures are equal files."""


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


def label_powers(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, for mathematical text is not parsed: powers of ten, or 1, 2 and 5 of them.

    The limits of the axis have to be set before.
    """
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1,) if high > 300 * low else (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def name_axes(figure: Figure, x: str, y: str) -> None:
    """Names below every panel, and beside those of the first column."""
    for axes in figure.axes:
        axes.set_xlabel(x)
        place = axes.get_subplotspec()
        if place is not None and place.is_first_col():
            axes.set_ylabel(y)


def wrap(text: str, width: float, fontsize: str = "medium") -> str:
    """Text whose lines are no wider than a width in inches, broken after blanks and marks that join names."""
    scale = font_scalings[fontsize] * STYLE["font.size"]
    letters = int(width * 72 / (scale * _LETTER))
    lines = [""]
    for piece in re.split(r"(?<=[\s_,:;+=/-])", text):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > letters:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def draw_picture(axes: Axes, picture: NDArray[Any], title: str = "", extent: Extent | None = None) -> None:
    """An image without axes; pixels are not smoothed.

    Args:
        axes: Where.
        picture: (H, W), drawn in grey, or (H, W, 3).
        title: Above it, in small letters.
        extent: Coordinates of its left, right, lower and upper edge; None: its pixels.
    """
    axes.imshow(picture, cmap="gray", extent=extent, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize="x-small")


def title_figure(figure: Figure, text: str) -> None:
    """A title above all panels, whose lines are no wider than the figure."""
    figure.suptitle("\n".join(wrap(line, figure.get_figwidth()) for line in text.splitlines()))


class LegendLayout(NamedTuple):
    """How the labels of a legend are arranged.

    Attributes:
        labels: With line breaks where they are too long.
        columns: Number of columns.
        height: In inches.
    """

    labels: list[str]
    columns: int
    height: float


def arrange_legend(labels: Sequence[str], width: float) -> LegendLayout:
    """A legend no wider than a width in inches, with columns of equal length."""
    inches = STYLE["font.size"] / 72
    wrapped = [wrap(label, width - _HANDLE * inches) for label in labels]
    letters = max(len(line) for label in wrapped for line in label.splitlines())
    fitting = max(1, min(len(wrapped), int(width / (inches * (_HANDLE + _LETTER * letters)))))
    rows = -(-len(wrapped) // fitting)
    lines = rows * max(len(label.splitlines()) for label in wrapped)
    return LegendLayout(wrapped, -(-len(wrapped) // rows), lines * 1.6 * inches)


def legend_label(name: str) -> str:
    """A label that legends show as it is: Matplotlib leaves out those that begin with an underscore."""
    return f" {name}" if name.startswith("_") else name


def share_legend(figure: Figure | SubFigure, markerscale: float = 1.0) -> None:
    """One legend below all panels, each entry once; a figure becomes higher where a legend is high."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    labels, columns, height = arrange_legend(list(entries), figure.bbox.width / figure.figure.dpi)
    figure.legend(list(entries.values()), labels, loc="outside lower center", ncols=columns, markerscale=markerscale)
    if isinstance(figure, Figure):
        figure.set_figheight(figure.get_figheight() + max(0.0, height - _LEGEND))


def _save(figure: Figure, path: Path, kind: str) -> Path:
    return write_atomically(path, lambda part: write_figure(figure, part, kind))


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure and what a report says of it.

    Attributes:
        name: Name of its files, without a suffix.
        figure: The figure.
        caption: What it shows: metric, runs, interval.
        alt: What a reader who cannot see it should know.
    """

    name: str
    figure: Figure
    caption: str
    alt: str
