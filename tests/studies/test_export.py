"""Exports say what each row is used for, and why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurestore.store import open_store
from studies.export import export_features

GOLDEN = Path(__file__).parents[1] / "featurestore" / "store" / "golden" / "format-1"


@pytest.fixture
def features():
    """14 training rows, of which one is unreadable and one without a label, and 8 test rows."""
    return open_store(str(GOLDEN)).select("galaxies").read("avgpool")


def read(path):
    found = np.load(path)
    return found["part"].tolist(), json.loads(str(found["skyprobe"]))["split"]


def test_the_split_of_the_dataset(features, tmp_path):
    parts, told = read(export_features(features, tmp_path / "x.npz"))
    assert parts == [*["train"] * 4, "", *["train"] * 8, *["test"] * 8]
    assert told == "split given by the dataset, whole groups: 12 train, 0 valid, 8 test"


def test_without_labels_the_splits_are_those_of_the_dataset(features, tmp_path):
    bare = replace(features, table=replace(features.table, labels={}, classes={}))
    parts, told = read(export_features(bare, tmp_path / "x.npz"))
    assert parts == ["train"] * 13 + ["test"] * 8
    assert told == "the dataset has no labels, and its own splits are used"


def test_groups_that_straddle_the_splits_are_told(features, tmp_path):
    table = replace(features.table, groups=np.array(["one"] * 21))
    parts, told = read(export_features(replace(features, table=table), tmp_path / "x.npz"))
    assert parts == ["train"] * 13 + ["test"] * 8
    assert "groups have samples in more than one split: one" in told
