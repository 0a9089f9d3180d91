"""What a terminal shows: progress and notices while something runs, results as text or JSON afterwards."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

from featurestore.extraction.estimate import Estimate
from featurestore.extraction.extract import ExtractionReport
from featurestore.reporter import StageResult
from featurestore.store.entry import FeatureEntry
from featurestore.store.inventory import summarise
from probes.results.json_values import json_ready
from probes.results.tables import align_cells
from studies.advice.outcome import Advised
from studies.result import ComparisonResult, StudyResult

_MOST_LISTED = 10
"""Unreadable images that are listed one by one; `skyprobe info` lists them all."""


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
                bars.append(tqdm(total=total, desc=label, **scale, **style))
            bars[0].update(done - bars[0].n)
            if done >= total:
                bars[0].close()

        return show

    def notice(self, text: str) -> None:
        """One line on stderr; the empty text shows nothing."""
        if text:
            print(text, file=sys.stderr)  # noqa: T201


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


@singledispatch
def to_text(value: object) -> str:
    """Any result as text for a reader; values without a form of their own are shown as ``name  value`` lines."""
    return "\n".join(_lines(_plain(value)))


@to_text.register
def _(value: list) -> str:  # type: ignore[type-arg]
    """Rows as a table where their values are simple, else one after the other."""
    rows = [_plain(row) for row in value]
    if not rows:
        return "Nothing."
    if any(isinstance(item, dict | list) for row in rows for item in row.values()):
        return "\n\n".join("\n".join(_lines(row)) for row in rows)
    columns = list(rows[0])
    cells = [columns, *[[_cell(row[column]) for column in columns] for row in rows]]
    return "\n".join(align_cells(cells))


@to_text.register
def _(value: ExtractionReport) -> str:
    costs = value.costs
    head = f"{value.dataset}: {costs.images:,} images decoded, {costs.forwards:,} forwarded in {value.seconds:,.1f} s"
    rate = f" ({costs.forwards / value.seconds:,.0f} a second)" if costs.forwards else ""
    phases = ", ".join(f"{name} {getattr(costs, name):,.1f} s" for name in ("decode", "preprocess", "forward", "write"))
    lines = [head + rate, f"  load models {costs.load:,.1f} s; summed over lanes: {phases}"]
    for one in value.features:
        done, unreadable, _missing = one.arrays.counts()
        lines.append(
            f"  {one.arrays.variant}  {one.arrays.backbone}  {one.arrays.key.short}: {one.embedded:,} embedded now, "
            f"{done:,} stored, {unreadable:,} unreadable"
        )
    return "\n".join([*lines, *_list_unreadable(value.unreadable), f"Store: {value.store}"])


@to_text.register
def _(value: Estimate) -> str:
    return (
        f"{value.dataset}: {value.images:,} images to decode, {value.forwards:,} forwards, "
        f"{value.bytes / 1e6:,.1f} MB to store, about {value.seconds:,.0f} s"
    )


@to_text.register
def _(value: StageResult) -> str:
    extractions = value.extractions if isinstance(value, StudyResult) else ()
    parts = [to_text(report) for report in extractions]
    parts += value.tables
    parts += ["\n".join(_list_unreadable(value.unreadable))] if value.unreadable and not extractions else []
    if isinstance(value, StudyResult):
        parts += [f"Saved head {name}: {what}" for name, what in value.heads.items()]
    spent = ", ".join(f"{stage} {seconds:,.1f} s" for stage, seconds in value.seconds.items())
    parts += _list_files(value.files)
    return "\n\n".join([*parts, f"Took: {spent}"])


@to_text.register
def _(value: ComparisonResult) -> str:
    head = f"{value.dataset} ({value.scheme})"
    return "\n\n".join([head, *value.tables, *value.remarks, *_list_files(value.files)])


@to_text.register
def _(value: Advised) -> str:
    how = "differences are paired, in macro-F1, with 95 % intervals over test rows and seeds."
    parts = [f"{value.dataset} ({value.scheme}): {how}"]
    for one in value.advice:
        lines = [f"* {one.topic}: {one.sentence}", *(f"    from {row}" for row in one.rows)]
        parts.append("\n".join([*lines, *([f"    run {one.command}"] if one.command else [])]))
    return "\n\n".join(parts)


def _list_files(files: Mapping[str, Path]) -> Iterator[str]:
    if files:
        yield "\n".join(["Written:", *(f"  {path}" for path in files.values())])


def _list_unreadable(reasons: Mapping[str, str]) -> Iterator[str]:
    if reasons:
        yield f"{len(reasons):,} images are unreadable:"
    for sample, reason in list(reasons.items())[:_MOST_LISTED]:
        yield f"  {sample}: {reason}"
    if len(reasons) > _MOST_LISTED:
        yield f"  and {len(reasons) - _MOST_LISTED:,} more: skyprobe info lists them"


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, dict | list) and item:
                yield f"{indent}{name}:"
                yield from _lines(item, indent + "  ")
            else:
                yield f"{indent}{name}: {_cell(item)}"
    elif isinstance(value, list):
        for item in value:
            yield from _lines(item, indent)
    else:
        yield f"{indent}{_cell(value)}"


def _cell(value: object) -> str:
    if value in ({}, []):
        return "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
