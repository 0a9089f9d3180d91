"""The health of a store, without reading its features."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from featurestore.store import open_store
from featurestore.store.verify import verify
from studies.doctor.stores import examine_store

GOLDEN = Path(__file__).parents[2] / "featurestore" / "store" / "golden" / "format-2"


@pytest.fixture
def store(tmp_path):
    return Path(shutil.copytree(GOLDEN, tmp_path / "my store"))


def examine(path):
    return {one.part: one for one in examine_store(str(path))}


def test_a_healthy_store(store):
    found = examine(store)
    assert found["store"].state == "ok"
    assert "datasets: 1" in found["store"].found
    assert found["space for features"].state == "ok"


def test_no_store_yet(tmp_path):
    found = examine(tmp_path / "none")["store"]
    assert found.state == "note"
    assert found.mend.startswith("skyprobe extract")


def test_a_folder_of_somebody_else_is_broken(tmp_path):
    (tmp_path / "notes.txt").touch()
    found = examine(tmp_path)["store"]
    assert found.state == "broken"
    assert found.mend


def test_a_damaged_table_is_broken(store):
    chunk = next(store.glob("datasets/*/columns/sample_id/*/c/0/0"))
    chunk.write_bytes(bytes(chunk.stat().st_size))
    assert examine(store)["store"].state == "broken"


def test_the_command_mends_damaged_metadata(store):
    metadata = next(store.glob("features/*/*/*/*/*/values/zarr.json"))
    metadata.write_bytes(b"")
    found = examine(store)["store"]
    assert found.state == "broken"
    assert str(metadata.parent.relative_to(store)) in found.found
    assert shlex.split(found.mend) == ["skyprobe", "verify", "--repair", "--store", str(store)]
    verify(open_store(str(store), mode="a"), repair=True)
    assert examine(store)["store"].state == "ok"


def test_a_store_that_can_only_be_read_is_a_note(store, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert examine(store)["space for features"].state == "note"
