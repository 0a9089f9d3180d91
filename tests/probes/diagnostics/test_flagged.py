"""Flagged samples: every finding by id, part and label."""

from __future__ import annotations

import numpy as np
import pandas as pd

from probes.diagnostics.duplicates import Duplicates
from probes.diagnostics.flagged import COLUMNS, list_flagged
from probes.diagnostics.outliers import Outliers

LABELS = [0, 1, 0, 1, -1, 0]
PARTS = np.array(["train", "valid", "test", "test", "", "train"])
PAIRS = pd.DataFrame({"first": [0], "second": [4], "similarity": [0.9]})
DUPLICATES = Duplicates(0.8, np.array([0, 1, 2, 1, 4, 5]), PAIRS, 1, PAIRS[:0])
LEAKS = pd.DataFrame({"test": [3], "train": [1], "similarity": [1.0]})
OUTLIERS = Outliers(np.array([5]), np.array([7.5]))


def flag(table, scheme="kind"):
    return list_flagged(table, scheme, PARTS, LEAKS, DUPLICATES, OUTLIERS)


def test_each_finding_has_both_images(make_table):
    found = flag(make_table(LABELS, classes=("a", "b")))
    assert list(found.columns) == list(COLUMNS)
    assert found.to_numpy().tolist() == [
        ["leak", "s003", "test", "b", "s001", "valid", "b", 1.0],
        ["equal", "s003", "test", "b", "s001", "valid", "b", 1.0],
        ["close", "s004", "", "", "s000", "train", "a", 0.9],
        ["outlier", "s005", "train", "a", "", "", "", 7.5],
    ]


def test_without_labels_nothing_is_named(make_table):
    found = flag(make_table(LABELS), None)
    assert set(found["label"]) == set(found["other_label"]) == {""}


def test_only_so_many_of_one_reason_are_listed(make_table, monkeypatch):
    monkeypatch.setattr("probes.diagnostics.flagged.MOST", 1)
    duplicates = Duplicates(0.8, np.array([0, 0, 0, 3, 4, 5]), PAIRS, 1, PAIRS[:0])
    found = list_flagged(make_table(LABELS), "kind", PARTS, LEAKS, duplicates, OUTLIERS)
    assert found["reason"].value_counts().to_dict() == {"leak": 1, "equal": 1, "close": 1, "outlier": 1}
    assert found[found["reason"] == "equal"]["sample_id"].item() == "s001"
