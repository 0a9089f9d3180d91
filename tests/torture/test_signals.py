"""SIGTERM and Ctrl-C: the usual exit code, a line that says how to go on, and nothing lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.torture.conftest import contents, copy_of

FEW, MANY = 1, 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("job", ["extract", "train"])
def test_a_stopped_job(job: str, number: signal.Signals, prepared, tortured, rounds, rng, tell, tmp_path: Path) -> None:
    whole = copy_of(prepared[job], tmp_path / "whole")
    events = tortured.finish(job, whole)["events"]
    tortured.finish("finish", whole)
    stopped = 0
    for _ in range(rounds(FEW, MANY)):
        folder, event = copy_of(prepared[job], tmp_path / "stopped"), rng.randrange(events // 8, events // 2)
        answer, log = tortured.run(job, folder, at=event, sends=number), tortured.log(folder)
        assert answer["code"] in {128 + number, 0}, (event, log)
        assert "Traceback" not in log, (event, log)
        if answer["code"]:
            assert f"stopped by {number.name}" in log and "run: " in log, (event, log)
            stopped += 1
        tortured.finish(job, folder)
        tortured.finish("finish", folder)
        assert contents(folder / "store.zarr") == contents(whole / "store.zarr"), event
    assert stopped
    tell(f"{stopped} of {rounds(FEW, MANY)} stopped with exit code {128 + number}; all equal afterwards")
