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

    def take() -> bool:
        taken = quiet._LOCK.acquire(blocking=False)
        if taken:
            quiet._LOCK.release()
        return taken

    with ThreadPoolExecutor(1) as other:
        with ignored_warnings():
            assert not other.submit(take).result()
        assert other.submit(take).result()


def test_threads_leave_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(warn_quietly, range(500)))
    assert list(warnings.filters) == before


def test_blocks_may_be_nested() -> None:
    with ignored_warnings(), ignored_warnings():
        warnings.warn("inner", stacklevel=1)
