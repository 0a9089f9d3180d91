"""Tables: a caption and rows, as plain text, as LaTeX and as CSV; the one place where cells become text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from probes.results.escaping import escape_csv, escape_latex, escape_lines, escape_terminal

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Table:
    """A table as it is shown.

    Attributes:
        caption: What it shows: metric, runs, interval.
        frame: Columns and rows, in order of display; the index is not shown.
    """

    caption: str
    frame: pd.DataFrame


def show_cell(value: object) -> str:
    """A value as a reader wants it: four digits of a fraction, whole numbers in full."""
    if isinstance(value, float):  # numpy's too
        return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def align_cells(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, in columns of plain text, for a terminal."""
    lines = [list(map(escape_terminal, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]


def to_columns(frame: pd.DataFrame) -> str:
    """Cells in columns of plain text, with a rule below their names."""
    head, *lines = align_cells([_names(frame), *_cells(frame)])
    return "\n".join([head, "-" * max(map(len, [head, *lines])), *lines])


def to_text(table: Table) -> str:
    """A table as plain text, for a terminal: its caption, an empty line and its cells."""
    return f"{escape_lines(table.caption)}\n\n{to_columns(table.frame)}"


def to_latex(table: Table) -> str:
    """A LaTeX table (booktabs) with its caption; names may hold any character."""
    styler = table.frame.style.hide(axis="index").format(lambda value: escape_latex(show_cell(value)))
    styler = styler.format_index(lambda name: escape_latex(str(name)), axis="columns")
    return str(styler.to_latex(hrules=True, caption=escape_latex(table.caption), position="htbp"))


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV, without its index; no cell and no name of a column is a formula of a spreadsheet."""
    return str(_without_formulas(frame).to_csv(index=False))


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write `to_csv`; see `featurestore.files.write_atomically` for a file that is whole or absent."""
    _without_formulas(frame).to_csv(path, index=False)


def _without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    safe = frame.rename(columns=_escape_cell)
    for place, dtype in enumerate(frame.dtypes):
        if dtype.kind == "O":  # text; of other columns no value begins with more than the sign of a number
            safe.isetitem(place, list(map(_escape_cell, frame.iloc[:, place])))
    return safe


def _escape_cell(value: object) -> object:
    return escape_csv(value) if isinstance(value, str) else value


def _names(frame: pd.DataFrame) -> list[str]:
    return list(map(str, frame.columns))


def _cells(frame: pd.DataFrame) -> Iterable[list[str]]:
    return (list(map(show_cell, row)) for row in frame.itertuples(index=False, name=None))
