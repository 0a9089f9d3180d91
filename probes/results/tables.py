"""Tables: a caption and cells of text, as plain text and as LaTeX."""

from __future__ import annotations

from dataclasses import dataclass

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


def to_columns(frame: pd.DataFrame) -> str:
    """Cells in columns of plain text, with a rule below their names."""
    lines = [list(frame.columns), *frame.astype(str).to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])


def to_latex(table: Table) -> str:
    """A LaTeX table (booktabs) with its caption; names may hold any character."""
    styler = (
        table.frame.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    )  # fmt: skip
    return str(styler.to_latex(hrules=True, caption=_escape(table.caption), position="htbp"))


def _escape(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in text)
