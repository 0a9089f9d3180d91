"""Hostile inputs to every reader: an error of skyprobe or a right result, in time and within the memory budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.torture.conftest import ROOT, SEED

_AT_ONCE = 2500
"""Inputs of one process: of a crash, the last line would say little."""


def test_hostile_inputs(rounds, tell, tmp_path: Path) -> None:
    left, batch = rounds(120, 10_000), 0
    while left > 0:
        count = min(left, _AT_ONCE)
        command = [
            sys.executable,
            "-m",
            "tests.torture.fuzz",
            str(count),
            f"{SEED}-{batch}",
            str(tmp_path / str(batch)),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        *faults, summary = done.stdout.splitlines()
        assert faults == [], "\n".join(faults)
        tell(f"{count} inputs of {json.loads(summary)['kinds']} kinds: {summary}")
        left, batch = left - count, batch + 1
