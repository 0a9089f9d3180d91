"""A private way from a child process to its parent: standard output, kept free of what libraries print."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def claim_stdout() -> TextIO:
    """Standard output for the caller alone; from now on everything else that is printed goes to standard error."""
    sys.stdout.flush()
    claimed = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return claimed
