"""Row: one measured ratio, and alternating timing that a drifting machine cannot fake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured.
        ours: Our figure, in `unit`.
        other: What it is held against, in `unit`.
        against: What that is: a limit, or a peer.
        unit: ``images/s`` or ``GB/s``; more is better.
        ratio: Median over pairs of ours / other.
    """

    what: str
    ours: float
    other: float
    against: str
    unit: str
    ratio: float


def compare(
    what: str,
    ours: Callable[[], object],
    other: Callable[[], object],
    *,
    against: str,
    amount: float,
    unit: str,
    pairs: int = 5,
) -> Row:
    """Time two callables in turn, `pairs` times after one warm-up each; both handle `amount` units a call."""
    ours(), other()
    times = [(_seconds(ours), _seconds(other)) for _ in range(pairs)]
    mine, theirs = (median(column) for column in zip(*times, strict=True))
    return Row(what, amount / mine, amount / theirs, against, unit, median(other / own for own, other in times))


def _seconds(call: Callable[[], object]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started
