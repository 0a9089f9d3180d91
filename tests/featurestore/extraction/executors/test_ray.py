"""Actors of a real Ray on this machine."""

from __future__ import annotations

import os
import socket

import pytest

from featurestore.errors import BackboneError, UsageError
from featurestore.extraction.executors import ray as module
from featurestore.extraction.executors.slices import Slice

ray = pytest.importorskip("ray", reason="pip install 'skyprobe[ray]'")

on_cluster = pytest.mark.skipif(not os.environ.get("SKYPROBE_CLUSTER"), reason="takes half a minute: make test-cluster")


@pytest.fixture(scope="module")
def cluster():
    with module.connected(None, {"num_cpus": 2}):
        yield


@pytest.fixture
def fatal(monkeypatch, tmp_path):
    """``fatal(rows, times)``: an actor that embeds one of these rows dies, so many times in all."""

    def patch(rows, times):
        monkeypatch.setattr(module, "Host", _make_fatal_host(rows, times, str(tmp_path / "deaths")))
        return tmp_path / "deaths"

    return patch


def _make_fatal_host(rows, times, record):
    from featurestore.extraction.executors.host import Host

    class FatalHost(Host):  # made in a function: it travels to the actors by value
        def _load(self):
            import os
            import signal
            from pathlib import Path

            extraction, deaths = super()._load(), Path(record)
            embed = extraction.plan.embed

            def fatal(slots):
                known = deaths.read_text() if deaths.exists() else ""
                if len(known) < times and any(set(own.tolist()) & set(rows) for own in slots.values()):
                    deaths.write_text(known + "x")
                    os.kill(os.getpid(), signal.SIGKILL)
                return embed(slots)

            extraction.plan.embed = fatal
            return extraction

    return FatalHost


def test_two_actors_of_which_one_is_killed_in_mid_block_make_the_bytes_of_one_process(
    cluster, extract, read_store, fatal
):
    deaths = fatal([17], times=1)
    extract("whole")
    report = extract("shared", executor="ray", devices="2")
    assert deaths.read_text() == "x" and sum(one.embedded for one in report.features) > 30
    assert read_store("shared") == read_store("whole")


@on_cluster
def test_a_second_driver_goes_on_where_the_first_one_died(cluster, extract, read_store):
    extract("whole")
    extract("shared", Slice(0, 2), executor="ray", devices="2")
    assert extract("shared", executor="ray", devices="2").features[0].embedded == 20
    assert read_store("shared") == read_store("whole")


@on_cluster
def test_an_image_that_kills_is_marked(cluster, extract, fatal):
    fatal([6], times=10**6)
    (features,) = extract("s", Slice(1, 10), executor="ray", devices="1").features
    assert features.entry.counts()[:2] == (3, 1)
    assert list(features.unreadable.values()) == ["the process that embeds it dies or fails"]


def test_a_bug_is_told_as_such(cluster, extract, monkeypatch):
    monkeypatch.setattr(module, "Host", _make_failing_host())
    with pytest.raises(BackboneError, match="a process died as it loaded its models"):
        extract("s", executor="ray", devices="1")


def _make_failing_host():
    from featurestore.extraction.executors.host import Host

    class FailingHost(Host):
        def _load(self):
            raise RuntimeError("bug")

    return FailingHost


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"devices": "3"}, "3 actors of 1 CPU each, and the cluster has 2 CPU [ray]. Use fewer --devices"),
        ({"gpus_per_worker": 1.0}, "1 actors of 1 GPU each, and the cluster has 0 GPU [ray]"),
    ],
)
def test_actors_that_find_no_place_are_refused(cluster, extract, given, message):
    with pytest.raises(UsageError) as error:
        extract("s", executor="ray", **given)
    assert message in str(error.value)


def test_an_address_without_ray_is_told(extract):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(
            UsageError, match=rf"no Ray cluster answers: .*refused \[{address}\]. Start one by ray start"
        ):
            module._check_answer(address)


def test_an_address_that_is_silent_is_told(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(ray, "init", lambda **_: __import__("threading").Event().wait())
    with pytest.raises(UsageError, match=r"no Ray cluster answers: silent for 0.05 s \[node:6379\]"):
        module._connect("node:6379", {})
