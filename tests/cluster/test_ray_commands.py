"""Commands on Ray: a driver that is killed and started again, and probes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featurestore.store import open_store
from featurestore.store.verify import verify
from tests.cluster.one_node import until

ROOT = Path(__file__).parents[2]
MODEL = ["sky", "-b", "resnet-18", "-p", "full-224"]
EXTRACT = [*MODEL, "--weights", "random:0", "--engine", "torch", "--workers", "1"]


@pytest.fixture
def place(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(200):
        path = tmp_path / "sky" / "ab"[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
    for name in ("whole.zarr", "ray.zarr"):
        open_store(str(tmp_path / name), mode="a", block_rows=8)
    return tmp_path


def start(place, *words):
    code = "import sys; sys.argv[0] = 'skyprobe'; import cli; cli.main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (place / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code, *words], cwd=place, env=environment, stdout=log, stderr=log
        )


def run(place, *words):
    assert start(place, *words).wait(240) == 0, (place / "log").read_text()


def contents(store):
    files = {path.relative_to(store).as_posix(): path for path in sorted(store.rglob("*")) if path.is_file()}
    return {key: path.read_bytes() for key, path in files.items() if not key.startswith(("writers/", "claims/"))}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_dies_and_is_started_again_goes_on(place, number):
    ray = ["extract", *EXTRACT, "--store", "ray.zarr", "--executor", "ray", "--devices", "2"]
    run(place, "extract", *EXTRACT, "--store", "whole.zarr")
    driver = start(place, *ray)
    until(lambda: list((place / "ray.zarr").rglob("state/c/*")))
    driver.send_signal(number)
    assert driver.wait(60) == {signal.SIGKILL: -9, signal.SIGTERM: 143}[number]
    if number == signal.SIGTERM:
        assert "run: skyprobe extract sky" in (place / "log").read_text()
    (entry,) = open_store(str(place / "ray.zarr")).find()
    assert 0 < entry.counts().done < 200
    run(place, *ray)
    assert contents(place / "ray.zarr") == contents(place / "whole.zarr")
    assert verify(open_store(str(place / "ray.zarr"))) == []


def test_probes_of_two_matrices(place):
    layers = ["sky", "-b", "resnet-18", "-b", "resnet-18@2", "-p", "full-224"]
    run(place, "extract", *layers, "--weights", "random:0", "--engine", "torch", "--store", "whole.zarr")
    grid = ["--fractions", "100", "--seeds", "2", "--weights", "random:0", "--store", "whole.zarr"]
    run(place, "probe", *layers, *grid, "--executor", "ray", "-o", "one")
    run(place, "probe", *layers, *grid, "-o", "two")
    assert (place / "one/results.csv").read_bytes() == (place / "two/results.csv").read_bytes()
