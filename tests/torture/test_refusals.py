"""A file system that says no, from any write on: one line that says so, and nothing that the next run cannot use."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.torture.conftest import contents, copy_of

FEW, MANY = 1, 30
ERRORS = (errno.ENOSPC, errno.EACCES, errno.EIO)


@pytest.mark.parametrize("job", ["extract", "probe", "train", "repair"])
def test_a_refusing_file_system(job: str, prepared, tortured, rounds, rng, tell, tmp_path: Path) -> None:
    whole = copy_of(prepared[job], tmp_path / "whole")
    events = tortured.finish(job, whole)["events"]
    tortured.finish("finish", whole)
    failed = 0
    for number in range(rounds(FEW, MANY)):
        folder, error, event = copy_of(prepared[job], tmp_path / "refused"), ERRORS[number % 3], rng.randrange(events)
        answer, log = tortured.run(job, folder, at=event, fails=error), tortured.log(folder)
        assert answer["code"] in {0, 1}, (event, error, log)
        assert "Traceback" not in log, (event, error, log)
        if answer["code"]:  # what the last events do, such as giving back a mark, may fail without harm
            assert "skyprobe: " in log, (event, error, log)
            failed += 1
        tortured.finish(job, folder)
        tortured.finish("finish", folder)
        assert contents(folder / "store.zarr") == contents(whole / "store.zarr"), (event, error)
    tell(f"{failed} of {rounds(FEW, MANY)} said so in a line, the others did not need the write; all equal afterwards")
