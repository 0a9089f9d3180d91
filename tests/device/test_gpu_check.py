"""A rehearsal of ``make gpu-check`` on the simulated device: every step, in short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = "runtime machine fidelity resizing forwards extraction memory recovery solver training"


def test_every_step_passes_or_says_why_it_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--short", "--device", "sim", "--json", str(path)]
    command += ["--precision", "fp32", "--skip", "training"]  # autocast and the options of training do not know it
    environment = os.environ | {"SKYPROBE_GPU_CHECK_PREPARE": str(Path(__file__).with_name("rehearsal.py"))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    assert (found["device"], found["passed"]) == ("simulated", True)
    assert [step["name"] for step in found["steps"]] == STEPS.split()
    assert [step["name"] for step in found["steps"] if "skipped" in step] == ["memory", "solver", "training"]
