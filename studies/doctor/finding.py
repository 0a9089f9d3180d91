"""Finding: one thing that the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: What was looked at.
        state: ``ok``; ``note``, which some commands would miss; ``broken``, which ordinary work fails on.
        found: What is there.
        mend: A command, or a sentence that names one; empty where there is nothing to do.
    """

    part: str
    state: State
    found: str
    mend: str = ""


def megabytes(n_bytes: int) -> str:
    """A size in MB (10^6 bytes), or GB where that is shorter."""
    return f"{n_bytes / 1e6:,.0f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.1f} GB"
