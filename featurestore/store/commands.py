"""Command lines that error messages tell the user to run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

_OPTIONS = ("pooling", "weights", "precision", "engine", "device", "dtype")
"""Options of ``skyprobe extract`` that a request for features may fix."""


def extract_command(data: str, backbone: str, variant: str, store: str, options: Mapping[str, object]) -> str:
    """The ``skyprobe extract`` command that makes these features; of `options` it takes those it has."""
    words = ["skyprobe", "extract", data, "-b", backbone, "-p", variant, "--store", store]
    for name in _OPTIONS:
        given = options.get(name) or ()
        for value in given if isinstance(given, tuple) else (given,):
            words += [f"--{name}", str(value)]
    return shlex.join(words)
