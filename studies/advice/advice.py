"""Advice as it is shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """One thing to do, or to leave, and why.

    Attributes:
        topic: What it is about: ``object size``, ``backbone``, ``whitening``.
        sentence: The advice, or that it was not measured.
        rows: What it was read from, a line for each; empty where nothing was measured.
        command: What measures the missing or does the advised; empty where there is nothing to run.
    """

    topic: str
    sentence: str
    rows: tuple[str, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class Advised:
    """All advice on one dataset.

    Attributes:
        dataset: Name of the dataset.
        scheme: Label scheme.
        advice: In the order in which it is worth reading.
    """

    dataset: str
    scheme: str
    advice: tuple[Advice, ...]
