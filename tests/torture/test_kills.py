"""Killed at any instant, a job that is started again ends with the bytes of one that nobody disturbed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from featurestore.store import open_store
from tests.torture.conftest import SHARE, contents, copy_of

FEW = 2
MANY = {"extract": 50, "probe": 40, "train": 30, "repair": 30, "slices": 40, "project": 10}


@pytest.mark.parametrize("job", MANY)
def test_kills(job: str, prepared, tortured, rounds, rng, tell, tmp_path: Path) -> None:
    if job == "project" and not SHARE:
        pytest.skip("UMAP takes half a minute to compile; make torture runs it")
    start = prepared[job]
    whole = copy_of(start, tmp_path / "whole")
    undisturbed = tortured.finish(job, whole)
    tortured.finish("finish", whole)
    wanted, ended = contents(whole / "store.zarr"), Counter()
    for number in range(rounds(FEW, MANY[job])):
        folder = copy_of(start, tmp_path / "killed")
        at = {"at": rng.randrange(undisturbed["events"])}
        if SHARE and number % 2:  # not only where files change
            at = {"seconds": rng.uniform(0.01, undisturbed["seconds"])}
        killed = tortured.run(job, folder, **at)
        ended[killed["code"]] += 1
        assert killed["code"] in {-9, -14, 0}, (at, tortured.log(folder))
        if job != "repair":  # in a store that is damaged, reading says so
            check_readable(folder / "store.zarr")
        tortured.finish(job, folder)
        tortured.finish("finish", folder)
        assert contents(folder / "store.zarr") == wanted, at
    tell(f"ended {dict(ended)} (-9 killed at an event, -14 at a time, 0 too late); all equal")


def check_readable(store: Path) -> None:
    """Whatever says done is whole and in its place; the rest is missing."""
    if not (store / "zarr.json").is_file():
        return
    for entry in open_store(str(store)).find():
        for pooling in entry.shapes:
            entry.read(pooling, allow_partial=True)
