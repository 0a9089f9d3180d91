"""Stores of every format version, as it was once written (golden/), are read by every later version.

Format 1 is of commit 3e1d752 (golden/make_format_1.py); format 2 is what ``skyprobe migrate`` made of it, once.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from featurestore.store import open_store
from featurestore.store.entry import Counts
from featurestore.store.inventory import describe, list_store
from featurestore.store.upkeep.migration import migrate
from featurestore.store.verify import verify

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "format-1.json").read_text())


STORES = ("format-1", "format-2")


@pytest.fixture(params=STORES)
def golden(tmp_path: Path, request):
    """A copy that may be written."""
    path = str(shutil.copytree(GOLDEN / request.param, tmp_path / "golden.zarr"))
    migrate(path)
    return open_store(path, mode="a")


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("pooling", ["avgpool", "patches"])
def test_values_samples_and_reasons_are_those_that_were_stored(pooling: str, name: str) -> None:
    features = open_store(str(GOLDEN / name)).select(key=EXPECTED["sha256"]).read(pooling)
    np.testing.assert_array_equal(features.values, np.array(EXPECTED["values"][pooling], np.float32))
    assert list(features.table.sample_ids) == EXPECTED["sample_ids"]
    assert features.unreadable == EXPECTED["unreadable"]
    assert features.table.groups is not None and features.table.sky is not None
    assert (features.table.groups[-1], features.table.sky[-1].tolist()) == ("field 10", [210.0, 11.0])
    assert features.table.schemes == ("kind", "has/bar?")


def test_ls_info_and_verify_find_it_sound(golden) -> None:
    (row,) = list_store(golden)
    assert row == {
        "dataset": "galaxies",
        "variant": "resize=224,crop=center:0.5",
        "backbone": "timm:resnet18.a1_in1k",
        "key": EXPECTED["sha256"][:12],
        "poolings": "avgpool(4),patches(2x2x3)",
        "done": 21,
        "unreadable": 1,
        "missing": 0,
        "megabytes": 0.0,
    }
    (found,) = golden.find()
    assert describe(found)["unreadable_images"] == EXPECTED["unreadable"]
    assert verify(open_store(golden.path)) == []
    assert verify(golden, repair=True) == []


def test_it_is_complete_for_an_equal_request_and_can_be_written(golden) -> None:
    (found,) = golden.find()
    table = golden.dataset("galaxies")
    assert found.requests == ["ab" * 32]
    assert not found.pending(table.fingerprints, np.ones(22, bool)).any()
    assert golden.put_dataset(table).tolist() == list(range(22))
    assert found.counts() == Counts(21, 1, 0)
