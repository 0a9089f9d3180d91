"""Every kind of result as text for a reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import singledispatch
from pathlib import Path

from featurestore.extraction.estimate import Estimate
from featurestore.extraction.extract import ExtractionReport
from featurestore.reporter import StageResult
from studies.advice.advice import Advised
from studies.result import ComparisonResult, StudyResult
from studies.terminal import to_lines, to_table

_MOST_LISTED = 10
"""Unreadable images that are listed one by one; `skyprobe info` lists them all."""


@singledispatch
def to_text(value: object) -> str:
    """Any result as text for a reader; values without a form of their own are shown as ``name: value`` lines."""
    return to_lines(value)


@to_text.register
def _(value: list) -> str:  # type: ignore[type-arg]
    return to_table(value)


@to_text.register
def _(value: ExtractionReport) -> str:
    costs = value.costs
    head = f"{value.dataset}: {costs.images:,} images decoded, {costs.forwards:,} forwarded in {value.seconds:,.1f} s"
    rate = f" ({costs.forwards / value.seconds:,.0f} a second)" if costs.forwards else ""
    phases = ", ".join(f"{name} {getattr(costs, name):,.1f} s" for name in ("decode", "preprocess", "forward", "write"))
    lines = [head + rate, f"  load models {costs.load:,.1f} s; summed over workers: {phases}"]
    for one in value.features:
        done, unreadable, missing = one.entry.counts()
        left = f", {missing:,} not extracted yet" if missing else ""
        lines.append(
            f"  {one.entry.variant}  {one.entry.backbone}  {one.entry.key.short}: {one.embedded:,} embedded now, "
            f"{done:,} stored, {unreadable:,} unreadable{left}"
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
