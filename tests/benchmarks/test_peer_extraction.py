from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from benchmarks import peer_extraction
from benchmarks.peer_extraction import AUTOCAST, OURS, PEERS, measure
from benchmarks.peers.process import PeerError

BEST = PEERS[1]


def pop_first(figures):
    if not figures:
        raise PeerError("exit code -11: segmentation fault")
    return figures.pop(0)


@pytest.fixture
def rates(monkeypatch):
    """Peer -> its images a second in the three rounds to come; the first round must not count."""
    rates = {peer: [1000.0, 10.0, 10.0] for peer in (*PEERS, AUTOCAST)}
    rates |= {ours: [1.0, 40.0, 60.0] for ours in OURS.values()}
    rates[BEST] = [1000.0, 20.0, 20.0]
    by_command = {tuple(peer.command("resnet18", "pictures")): peer for peer in rates}

    @contextmanager
    def start(command):
        peer = by_command[*command[:4], "pictures", command[5]]
        if peer not in rates:
            raise PeerError("ImportError: no such module")
        yield SimpleNamespace(rate=partial(pop_first, list(rates[peer])))

    case = peer_extraction.CASES[0]
    monkeypatch.setattr(peer_extraction, "CASES", [replace(case, images=1)])
    monkeypatch.setattr(peer_extraction, "ROUNDS", 2)
    monkeypatch.setattr(peer_extraction, "start_peer", start)
    monkeypatch.setattr("benchmarks.peers.process.Peer.installed", True)
    return rates


def test_the_ratio_is_the_median_over_rounds_to_the_best_peer(rates):
    row = next(measure())
    assert (row.ours, row.ratio, row.goal, row.met) == (50.0, 2.5, 1.7, True)
    assert row.peers == {peer.name: 20.0 if peer is BEST else 10.0 for peer in PEERS}
    assert row.note == f"against {BEST.name}"


def test_a_peer_that_does_not_start_is_named_with_its_reason(rates):
    del rates[BEST]
    row = next(measure())
    assert row.ratio == 5.0
    assert f"{BEST.name} failed: ImportError: no such module" in row.note


def test_a_peer_that_stops_between_rounds_is_left_out_and_named_once(rates):
    rates[BEST] = [1000.0, 20.0]
    row = next(measure())
    assert row.ratio == 5.0
    assert BEST.name not in row.peers
    assert row.note.count(BEST.name) == 1


def test_ours_has_to_run(rates):
    rates[OURS["fp32"]] = [1.0]
    with pytest.raises(PeerError, match="exit code -11"):
        next(measure())


def test_peers_that_are_not_installed_are_named_with_the_remedy(rates, monkeypatch):
    monkeypatch.setattr("benchmarks.peers.process.Peer.installed", property(lambda peer: peer.venv is None))
    row = next(measure())
    assert "thingsvision is not installed (make bench-peers)" in row.note
    assert set(row.peers) == {peer.name for peer in PEERS if peer.venv is None}


@pytest.mark.skipif("bf16" not in OURS, reason="this processor has no bf16")
def test_bf16_is_held_against_the_same_peers_and_tells_of_autocast(rates):
    _, row = measure()
    assert (row.ratio, row.goal) == (2.5, 3.0)
    assert row.note == f"against {BEST.name}; 5.00 x {AUTOCAST.name}"
    assert AUTOCAST.name not in row.peers
