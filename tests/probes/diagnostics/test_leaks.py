"""Leaks against brute force over all pairs of rows."""

from __future__ import annotations

import numpy as np
import pytest

from probes.diagnostics.duplicates import find_duplicates
from probes.diagnostics.leaks import find_leaks
from probes.diagnostics.sampling import draw_sample

PARTS = np.array(["train"] * 60 + ["valid"] * 20 + ["test"] * 30 + [""] * 10)
THRESHOLD = 0.8


@pytest.fixture
def features(features_of):
    """Rows in 40 clumps, so that many pairs are close; some are equal, across all parts."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 6))[rng.integers(0, 40, 120)] + 0.15 * rng.normal(size=(120, 6))
    values[85], values[86], values[87] = values[3], values[65], values[115]
    values[88] = values[89]
    values[4] = values[3]
    return features_of(values)


def brute_force(features, threshold):
    """Test row -> similarity and row of its closest partner that a head learns from; of equals the first."""
    centred = features.values - features.values.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit.T
    found = {}
    for row in np.flatnonzero(PARTS == "test"):
        learnt = np.flatnonzero(np.isin(PARTS, ["train", "valid"]))
        best = max(learnt, key=lambda other: (round(float(cosine[row, other]), 6), -other))
        if cosine[row, best] >= threshold:
            found[int(row)] = (float(cosine[row, best]), int(best))
    return found


@pytest.mark.parametrize(("most", "block"), [(10_000, 2048), (1, 2048), (1, 16)])
def test_leaks_are_those_of_all_pairs(features, monkeypatch, most, block):
    """Even where only the closest pair is listed: what leaks is looked for among all of them."""
    monkeypatch.setattr("probes.diagnostics.duplicates.MOST_PAIRS", most)
    monkeypatch.setattr("probes.diagnostics.duplicates.BLOCK_ROWS", block)
    found = find_leaks(find_duplicates(features, draw_sample(features, 200, 0), PARTS, THRESHOLD), PARTS)
    expected = brute_force(features, THRESHOLD)
    assert dict(zip(found["test"], found["train"], strict=True)) == {row: best for row, (_, best) in expected.items()}
    assert found["similarity"].tolist() == pytest.approx([expected[row][0] for row in found["test"]], abs=1e-5)
    assert (np.diff(found["similarity"]) <= 0).all()


def test_equal_rows_leak_from_training_and_from_validation_but_not_among_themselves(features):
    found = find_leaks(find_duplicates(features, draw_sample(features, 200, 0), PARTS, 1.0), PARTS)
    assert found.to_dict("list") == {"test": [85, 86], "train": [3, 65], "similarity": [1.0, 1.0]}


def test_rows_without_a_part_do_not_leak(features):
    for part in ("test", "train", ""):
        parts = np.full(120, part)
        duplicates = find_duplicates(features, draw_sample(features, 200, 0), parts, THRESHOLD)
        assert duplicates.n_pairs
        assert find_leaks(duplicates, parts).empty
