"""How many workers this process may use."""

from __future__ import annotations

import os


def count_processors() -> int:
    """Processors that this process may run on: its affinity where the system tells it, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
