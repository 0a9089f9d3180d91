"""Command lines that error messages tell the user to run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

_OPTIONS = ("pooling", "weights", "precision", "engine", "device", "dtype")
"""Options of ``skyprobe extract`` that a request for features may fix."""


EXAMPLE = "dinov2-s"
"""The backbone of a command where the user named none."""


def extract_command(data: str, backbone: str, variant: str, store: str, options: Mapping[str, object]) -> str:
    """The ``skyprobe extract`` command that makes these features.

    Args:
        data: What the user calls the dataset.
        backbone: Name of the backbone.
        variant: Name of the variant; empty: the default one.
        store: Path of the store.
        options: Fields of a key or a request; those that the command has are taken.
    """
    words = ["skyprobe", "extract", data, "-b", backbone, *(["-p", variant] if variant else []), "--store", store]
    for name in _OPTIONS:
        given = options.get(name) or ()
        for value in given if isinstance(given, tuple) else (given,):
            words += [f"--{name}", str(value)]
    return shlex.join(words)
