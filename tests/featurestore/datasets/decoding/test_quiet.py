from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from featurestore.datasets.decoding import quiet
from featurestore.datasets.decoding.quiet import ignored_warnings


def warn_quietly(_: int) -> None:
    with ignored_warnings():
        warnings.warn("tabs in the header", UserWarning, stacklevel=1)


def test_warnings_inside_are_ignored() -> None:
    warn_quietly(0)


def test_warnings_outside_are_not() -> None:
    warn_quietly(0)
    with pytest.raises(UserWarning):
        warnings.warn("later", UserWarning, stacklevel=1)


def test_threads_take_turns() -> None:
    """Two at once would restore each other's filters."""
    with ignored_warnings():
        assert not quiet._LOCK.acquire(blocking=False)
    assert not quiet._LOCK.locked()


def test_threads_leave_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(warn_quietly, range(500)))
    assert list(warnings.filters) == before
