"""Rows as a table: on the terminal line by line, and in Markdown with the notes below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import Any

COLUMNS = {"what": 44, "ours": 15, "limit": 10, "peers": 50, "ratio": 7, "goal": 8, "met": 3}
"""Column -> width on the terminal."""

Row = Mapping[str, Any]
"""A row as `benchmarks.row.Row.to_dict` gives it."""


def header() -> str:
    """The head of the table on the terminal."""
    return "  ".join(name.ljust(width) for name, width in COLUMNS.items()) + "\n" + "-" * (sum(COLUMNS.values()) + 12)


def format_row(row: Row) -> str:
    """A row on the terminal: each cell wrapped in its column, the note below."""
    cells = _cells(row)
    columns = [
        [line for text in cells[name] for line in wrap(text, width, subsequent_indent="  ")]
        for name, width in COLUMNS.items()
    ]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(texts, COLUMNS.values(), strict=True)).rstrip()
        for texts in zip_longest(*columns, fillvalue="")
    ]
    notes = wrap(row["note"], 140, initial_indent="    ", subsequent_indent="    ")
    return "\n".join([*lines, *notes])


def to_markdown(rows: Sequence[Row]) -> str:
    """All rows as one Markdown table; notes are numbered and stand below it."""
    return "\n".join(_markdown_lines(rows))


def _markdown_lines(rows: Sequence[Row]) -> Iterator[str]:
    notes: list[str] = []
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|---|" + "---:|" * 2 + "---|" + "---:|" * 2 + "---|"
    for row in rows:
        cells = {name: "<br>".join(texts) for name, texts in _cells(row).items()}
        if row["note"]:
            if row["note"] not in notes:
                notes.append(row["note"])
            cells["what"] += f" [{notes.index(row['note']) + 1}]"
        yield "| " + " | ".join(cells[name].replace("|", r"\|") for name in COLUMNS) + " |"
    if notes:
        yield ""
        yield "Notes:"
        yield ""
        yield from (f"{number}. {note}" for number, note in enumerate(notes, start=1))


def summarise(rows: Sequence[Row]) -> str:
    """How many goals are met, and those that are not."""
    with_goal = [row for row in rows if row["met"] is not None]
    missed = [row for row in with_goal if not row["met"]]
    head = f"{len(with_goal) - len(missed)} of {len(with_goal)} goals met"
    return "\n".join([head, *(f"  not met: {row['what']}: {row['ratio']:.3g}, goal {_goal(row)}" for row in missed)])


def _cells(row: Row) -> dict[str, list[str]]:
    """Column -> its lines."""
    return {
        "what": [row["what"]],
        "ours": [f"{row['ours']:.4g} {row['unit']}"],
        "limit": [] if row["limit"] is None else [f"{row['limit']:.4g}"],
        "peers": [f"{name}: {figure:.4g}" for name, figure in row["peers"].items()],
        "ratio": [f"{row['ratio']:.3g}"],
        "goal": [_goal(row)],
        "met": [{True: "yes", False: "no", None: ""}[row["met"]]],
    }


def _goal(row: Row) -> str:
    if row["goal"] is None:
        return ""
    return f"{'<=' if row['at_most'] else '>='} {row['goal']:g}"
