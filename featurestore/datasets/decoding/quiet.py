"""Silence for libraries that warn about files instead of failing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_LOCK = RLock()


@contextmanager
def ignored_warnings() -> Iterator[None]:
    """Ignore every warning while one header is parsed.

    Python keeps its warning filters for the whole process, so threads take turns; blocks may be nested.
    Pixels are decoded outside.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
