"""What a terminal shows: progress and notices while something runs, plain values as text or JSON afterwards.

Nothing here knows a kind of result, so that listing a store loads neither probes nor models; see `studies.result_text`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from featurestore.store.entry import FeatureEntry
from featurestore.store.inventory import summarise
from probes.results.escaping import escape_lines, escape_terminal
from probes.results.json_values import json_ready
from probes.results.tables import align_cells


class Terminal:
    """Progress bars (done, rate, time left) and notices, on stderr."""

    def progress(self, label: str, unit: str = "it") -> Callable[[int, int], None]:
        """A bar that appears with its first step and stays when it is full; bytes (unit B) are shown as kB, MB ..."""
        from tqdm import tqdm

        bars: list[Any] = []

        def show(done: int, total: int) -> None:
            if not bars:
                seconds = 0.2 if sys.stderr.isatty() else 10  # a log file wants few lines
                scale = {"unit": unit, "unit_scale": unit == "B"}
                style = {"file": sys.stderr, "dynamic_ncols": True, "mininterval": seconds}
                bars.append(tqdm(total=total, desc=escape_terminal(label), **scale, **style))
            bars[0].update(done - bars[0].n)
            if done >= total:
                bars[0].close()

        return show

    def notice(self, text: str) -> None:
        """One line on stderr; the empty text shows nothing."""
        if text:
            print(escape_lines(text), file=sys.stderr)  # noqa: T201


def to_json(value: object) -> str:
    """Any result as JSON; dataclasses become objects of their fields and properties."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        names += [name for name, item in vars(type(value)).items() if isinstance(item, property)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, FeatureEntry):
        return summarise(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else json_ready(value)


def to_lines(value: object) -> str:
    """Any value as text for a reader: ``name: value`` lines."""
    return "\n".join(_lines(_plain(value)))


def to_table(rows: Sequence[object]) -> str:
    """Rows as a table where their values are simple, else one after the other."""
    shown = [_plain(row) for row in rows]
    if not shown:
        return "Nothing."
    if any(isinstance(item, dict | list) for row in shown for item in row.values()):
        return "\n\n".join("\n".join(_lines(row)) for row in shown)
    columns = list(shown[0])
    cells = [columns, *[[_cell(row[column]) for column in columns] for row in shown]]
    return "\n".join(align_cells(cells))


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, dict | list) and item:
                yield f"{indent}{escape_terminal(name)}:"
                yield from _lines(item, indent + "  ")
            else:
                yield f"{indent}{escape_terminal(name)}: {_cell(item)}"
    elif isinstance(value, list):
        for item in value:
            yield from _lines(item, indent)
    else:
        yield f"{indent}{_cell(value)}"


def _cell(value: object) -> str:
    if value in ({}, []):
        return "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else escape_terminal(str(value))
