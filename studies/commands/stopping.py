"""stop_on_signals: SIGTERM, and SIGUSR1 as batch systems send it before a time limit, stop a command like Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import NoReturn

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Inside, these signals raise KeyboardInterrupt with their number; a second one is ignored."""
    if current_thread() is not main_thread():  # which alone may have handlers
        yield
        return
    kept = {number: signal.signal(number, _stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: object) -> NoReturn:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(number)
