"""The measured table, written into a page of the documents between two marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, read_machine, read_rows
from benchmarks.table import summarise, to_markdown

START, END = "<!-- measured: start -->", "<!-- measured: end -->"


def write_table(page: Path, results: Path = RESULTS) -> None:
    """Replace what stands between the marks by machine, dates and table of the latest results.

    Raises:
        ValueError: The page lacks the marks, or nothing was measured yet.
    """
    text = page.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{page} lacks the marks {START} and {END}")
    rows = read_rows(results)
    if not rows:
        raise ValueError("nothing was measured yet; run: make bench")
    measured = [_describe(read_machine(results)), to_markdown(rows), summarise(rows).partition("\n")[0] + "."]
    page.write_text("\n\n".join([before + start, *measured, end + after]), encoding="utf-8")


def _describe(machine: dict[str, Any]) -> str:
    runs = machine["runs"].values()
    dates, commits = (sorted({run[name] for run in runs}) for name in ("date", "commit"))
    versions = ", ".join(f"{library} {version}" for library, version in machine["versions"].items())
    return (
        f"Measured {' to '.join(dict.fromkeys([dates[0], dates[-1]]))} on {machine['cores']} cores of "
        f"{machine['processor']}, {machine['memory_gb']} GB, {machine['system']}, by `make bench` "
        f"at commit {', '.join(commits)}. Python {machine['python']}, {versions}."
    )
