"""Processors are those that this process may use, not those of the machine."""

import os

import pytest

from featurestore.workers import count_processors


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_only_processors_that_may_be_used_are_counted():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert count_processors() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert count_processors() == len(allowed)


def test_the_machine_is_counted_where_the_system_tells_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert count_processors() == 1
