"""A job array on a real SLURM: one task is killed and requeued, one stopped before its time; the bytes are the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cli import main
from featurestore.store import open_store
from featurestore.store.verify import verify
from tests.cluster.one_node import running, until

N, BLOCK, TASKS = 320, 8, 4
MODEL = ["-b", "resnet-18", "-p", "full-224", "--weights", "random:0", "--engine", "torch"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with running(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with images and two stores of small blocks."""
    rng = np.random.default_rng(0)
    for number in range(N):
        path = tmp_path / "sky" / "ab"[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
    for name in ("whole.zarr", "array.zarr"):
        open_store(str(tmp_path / name), mode="a", block_rows=BLOCK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words):
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def claimed(store: Path) -> int | None:
    """Process id of a writer that has a block at this moment."""
    folder = store / "claims"
    for file in folder.glob("*.alive"):
        if any(path.read_text() == file.stem for path in folder.glob("*.[0-9]*")):
            return json.loads(file.read_text())["pid"]
    return None


def contents(store: Path) -> dict[str, bytes]:
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.relative_to(store).parts[0] not in {"writers", "claims"}
    }


def test_an_array_of_which_one_task_is_killed_and_one_stopped(slurm, place):
    run("extract", "sky", *MODEL, "--store", "whole.zarr")
    script = place / "job.sbatch"
    run("slurm", "sky", *MODEL, "--store", "array.zarr", "--tasks", TASKS, "--cpus", 1, "--memory", "1G", "-o", script)
    job = slurm.submit(script)
    victim = until(lambda: claimed(place / "array.zarr"))
    os.kill(victim, signal.SIGKILL)
    killed = until(lambda: [task for task, state in slurm.states(job).items() if state == "FAILED"])
    stopped = until(lambda: _running_with_claim(slurm, job, place))
    slurm.run("scancel", "--signal=USR1", f"{job}_{stopped}")
    for task in killed:
        slurm.run("scontrol", "requeue", f"{job}_{task}")
    assert set(slurm.wait(job, TASKS).values()) == {"COMPLETED"}
    logs = {task: (place / f"skyprobe-{job}_{task}.log").read_text() for task in range(TASKS)}
    print(json.dumps({task: log[-600:] for task, log in logs.items()}, indent=1))
    assert "stopped by SIGUSR1; what is done is stored" in logs[stopped]
    assert all("done" in log or "embedded now" in log for log in logs.values())
    assert contents(place / "array.zarr") == contents(place / "whole.zarr")
    assert verify(open_store(str(place / "array.zarr"))) == []


def _running_with_claim(slurm, job, place):
    """A task that has a block at this moment."""
    pid = claimed(place / "array.zarr")
    if pid is None:
        return None
    environment = subprocess.run(["cat", f"/proc/{pid}/environ"], capture_output=True, check=False).stdout
    found = [word for word in environment.decode().split("\0") if word.startswith("SLURM_ARRAY_TASK_ID=")]
    return int(found[0].partition("=")[2]) if found else None
