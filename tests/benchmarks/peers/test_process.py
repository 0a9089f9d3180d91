import sys
from pathlib import Path

import pytest

from benchmarks.peers.process import Peer, PeerError, start_peer


def command(load):
    """A peer whose `Load` is the given expression."""
    source = f"import os, time; from benchmarks.peers.protocol import serve; serve({load})"
    return [sys.executable, "-c", source, "resnet18", "pictures", "default"]


def test_a_peer_answers_each_pass_whatever_it_prints():
    load = "lambda backbone, folder, way: lambda: print('100 %') or (len(folder.name), time.perf_counter() * 0)"
    with start_peer(command(load)) as peer:
        assert peer.rate() > 0
        assert peer.rate() > 0


def test_seconds_of_loading_do_not_count():
    with start_peer(command("lambda *words: lambda: (1000, -1.0)")) as peer:
        assert peer.rate() == pytest.approx(1000, rel=0.1)  # one second is added to next to nothing


def test_a_peer_that_cannot_load_says_why():
    with (
        pytest.raises(PeerError, match="exit code 1: KeyError: 'vit'"),
        start_peer(command("lambda *words: {}['vit']")),
    ):
        pass


def test_a_peer_that_stops_in_a_pass_says_why():
    with start_peer(command("lambda *words: lambda: 1 / 0")) as peer, pytest.raises(PeerError, match="ZeroDivision"):
        peer.rate()


def test_a_peer_that_stops_while_it_waits_is_told_from_one_that_works():
    words = [sys.executable, "-c", "print('ready', flush=True); raise SystemExit(3)"]
    with start_peer(words) as peer, pytest.raises(PeerError, match="exit code 3"):
        peer.rate()


def test_a_peer_runs_in_its_own_environment_and_offers_what_it_has():
    peer = Peer("img2vec", "img2vec", "list", venv="nowhere", backbones=("resnet18",))
    words = peer.command("resnet18", Path("pictures"))
    assert words[0].endswith("benchmarks/.venvs/nowhere/bin/python")
    assert words[1:] == ["-m", "benchmarks.peers.img2vec", "resnet18", "pictures", "list"]
    assert not peer.installed
    assert (peer.offers("resnet18"), peer.offers("vit_small_patch16_224")) == (True, False)


def test_peers_without_an_environment_use_the_one_of_the_project():
    peer = Peer("timm", "timm_loader")
    assert peer.command("resnet18", Path())[0] == sys.executable
    assert peer.installed
    assert peer.offers("anything")
