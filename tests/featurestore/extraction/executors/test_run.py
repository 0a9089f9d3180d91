from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from featurestore.errors import SkyprobeError, UnknownNameError, UsageError
from featurestore.extraction.executors.local import LocalPool, list_devices
from featurestore.extraction.executors.slices import Slice

N = 40


def test_two_processes_of_which_one_is_killed_make_the_bytes_of_one(extract, read_store, monkeypatch):
    ask, killed = LocalPool.ask, []

    def kill_first(self, number, piece):
        future = ask(self, number, piece)
        if not killed:
            killed.extend(self._processes[number]._processes)
            os.kill(killed[0], signal.SIGKILL)
        return future

    whole = extract("whole")
    monkeypatch.setattr(LocalPool, "ask", kill_first)
    shared = extract("shared", devices="2")
    assert killed and read_store("shared") == read_store("whole")
    assert shared.features[0].unreadable == whole.features[0].unreadable != {}


def test_slices_one_after_the_other_make_the_bytes_of_one(extract, read_store):
    extract("whole")
    counts = [extract("parts", Slice(index, 3)).features[0].embedded for index in range(3)]
    assert counts == [16, 12, 12] and read_store("parts") == read_store("whole")


def test_nothing_is_started_where_everything_is_done(extract, monkeypatch):
    extract("s")
    monkeypatch.setattr(ProcessPoolExecutor, "submit", None)
    report = extract("s", devices="2")
    assert report.features[0].embedded == 0 and len(report.unreadable) == 1


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"executor": "dask"}, UnknownNameError, "dask"),
        ({"devices": "0"}, UsageError, "'0' devices [--devices]. Give the number of processes: --devices 2."),
        ({"devices": "all"}, UsageError, "all devices of a machine without a GPU [--devices]. Give the number"),
        ({"ray_address": "auto"}, UsageError, "and no Ray [--executor]. Add --executor ray."),
        ({"executor": "ray", "devices": "x"}, UsageError, "'x' devices [--devices]. Give the number of actors"),
    ],
)
def test_bad_requests_get_one_line(extract, given, kind, message):
    with pytest.raises(kind) as error:
        extract("s", **given)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_each_process_sees_one_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    assert list_devices("all", "cuda") == ["2", "5", "7"]
    assert list_devices("2", "cuda") == ["2", "5"]
    assert list_devices("2", "cpu") == [None, None]
    with pytest.raises(SkyprobeError, match=r"4 devices, and this machine shows 3 GPUs \[--devices\]"):
        list_devices("4", "cuda")


def test_without_ray_the_command_that_installs_it_is_told(extract, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SkyprobeError, match=r"Ray is not installed .* pip install 'skyprobe\[ray\]'"):
        extract("s", executor="ray")
