"""One rule for each medium in which names of users appear: terminal, LaTeX, CSV and HTML.

Names of samples, classes, datasets and columns come from files that others made. In a medium that reads some characters
as commands they are shown as what they are.
"""

from __future__ import annotations

import html
import re

_LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)
_FORMULA = re.compile(r"[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def escape_terminal(text: str) -> str:
    r"""Text without characters that move the cursor, change colours or turn the direction of writing.

    They are shown as in a Python string: ``\x1b``, ``\u202e``; so is a newline, by which a name could pass for a line.
    """
    return text if text.isprintable() else "".join(map(_show, text))


def escape_lines(text: str) -> str:
    """`escape_terminal` for a text of several lines, which remain lines."""
    return "\n".join(map(escape_terminal, text.split("\n")))


def escape_latex(text: str) -> str:
    """Text in which no character is a command of LaTeX; it can begin a cell of a table, or be within one."""
    escaped = escape_terminal(text).translate(_LATEX)
    return "{}" + escaped if escaped[:1] in ("[", "*") else escaped  # after \\ these two belong to the command


def escape_csv(text: str) -> str:
    """The cell of a CSV file that no spreadsheet takes for a formula: an apostrophe precedes = + - @, tab or newline.

    Numbers, and a sign that is the whole cell, are not formulas and remain what they are.
    """
    if not _FORMULA.match(text) or len(text) == 1 or _NUMBER.fullmatch(text):
        return text
    return f"'{text}"


def escape_html(text: str) -> str:
    """Text without mark-up, for elements and for attributes in quotes."""
    return html.escape(escape_terminal(text))


def _show(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
