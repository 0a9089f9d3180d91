"""Row: one line of the benchmark table; and timing in alternating pairs, which a drifting machine cannot fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured, with its size.
        unit: Unit of `ours`, `limit` and `peers`, for example ``images/s`` or ``s``.
        ours: Our figure.
        ratio: What is held against the goal; a median over alternating pairs where two things are compared.
        goal: The goal of `ratio`; None for a figure that is only stated.
        at_most: Whether `ratio` may not exceed the goal; otherwise it must reach it.
        limit: The physical bound, where there is one.
        peers: Name -> figure of what people use.
        note: What a reader has to know to judge the figure.
    """

    what: str
    unit: str
    ours: float
    ratio: float
    goal: float | None = None
    at_most: bool = False
    limit: float | None = None
    peers: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON values, with `met`."""
        return {**vars(self), "peers": dict(self.peers), "met": self.met}


@dataclass(frozen=True)
class Times:
    """Seconds of alternating runs of two callables; the medians are taken over pairs.

    Attributes:
        ours: Seconds of each run of the first.
        other: Seconds of each run of the second.
    """

    ours: tuple[float, ...]
    other: tuple[float, ...]

    @property
    def speedup(self) -> float:
        """Median over pairs of other / ours."""
        return median(other / ours for ours, other in zip(self.ours, self.other, strict=True))


def time_pairs(ours: Callable[[], object], other: Callable[[], object], pairs: int = 5, *, warm: bool = True) -> Times:
    """Time two callables in turn, `pairs` times; after one call of each that does not count if `warm`."""
    if warm:
        ours(), other()
    times = [(seconds(ours), seconds(other)) for _ in range(pairs)]
    mine, theirs = zip(*times, strict=True)
    return Times(mine, theirs)


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = perf_counter()
    call()
    return perf_counter() - started
