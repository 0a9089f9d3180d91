"""Figures of a step, and what is demanded of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One value.

    Attributes:
        name: What it is, with its unit.
        value: A number, text, or whether something holds.
        limit: What it must reach, or be equal to; None for a figure that is only stated.
        at_most: Whether it may not exceed the limit.
    """

    name: str
    value: float | str | bool
    limit: float | bool | None = None
    at_most: bool = False

    @property
    def passed(self) -> bool:
        """Whether the limit is kept; NaN never does."""
        if self.limit is None:
            return True
        if isinstance(self.limit, bool) or isinstance(self.value, str):
            return self.value == self.limit
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def demand(self) -> str:
        """The limit in words; empty without one."""
        if self.limit is None:
            return ""
        return str(self.limit) if isinstance(self.limit, bool) else f"{'<=' if self.at_most else '>='} {self.limit:g}"


@dataclass(frozen=True)
class StepResult:
    """What a step came to.

    Attributes:
        name: Of the step.
        seconds: How long it took.
        figures: Its values.
        skipped: Why it was left out; empty if it was not.
        error: What ended it; empty if nothing did.
    """

    name: str
    seconds: float
    figures: Sequence[Figure] = ()
    skipped: str = ""
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether every demand is met; a step that was left out demands nothing."""
        return not self.error and all(figure.passed for figure in self.figures)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        state = {"skipped": self.skipped} if self.skipped else {"passed": self.passed}
        return {
            "name": self.name,
            "seconds": round(self.seconds, 2),
            "values": {figure.name: figure.value for figure in self.figures},
            "limit": {figure.name: figure.demand for figure in self.figures if figure.demand},
            **state,
            **({"error": self.error} if self.error else {}),
        }


def format_results(results: Sequence[StepResult]) -> str:
    """A table: a line for each step, one for each of its figures."""
    lines = []
    for result in results:
        state = "skipped" if result.skipped else "passed" if result.passed else "FAILED"
        lines.append(f"{result.name:<14} {state:<8} {result.seconds:6.1f} s  {result.skipped or result.error}".rstrip())
        for figure in result.figures:
            value = f"{figure.value:.4g}" if isinstance(figure.value, float) else str(figure.value)
            mark = "" if figure.passed else "  <- missed"
            lines.append(f"    {figure.name:<58} {value:>12}  {figure.demand}{mark}".rstrip())
    return "\n".join(lines)
