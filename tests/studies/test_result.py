"""A clock keeps the time of each stage."""

from studies import result


def test_stages_are_timed_in_their_order(monkeypatch):
    ticks = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr(result, "perf_counter", lambda: next(ticks))
    clock = result.Clock()
    with clock("probe"):
        pass
    with clock("report"):
        pass
    assert list(clock.seconds.items()) == [("probe", 2.0), ("report", 0.5)]
