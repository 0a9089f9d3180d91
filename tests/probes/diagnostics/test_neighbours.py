"""Distances to neighbours against scikit-learn, and equal rows against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from probes.diagnostics.neighbours import digest_rows, distinct_rows, nearest_distances, row_distances

ROWS = np.random.default_rng(0).normal(size=(70, 4)).astype(np.float32)


@pytest.mark.parametrize("block", [16, 1024])
def test_distances_are_those_of_scikit_learn_without_the_row_itself(monkeypatch, block):
    monkeypatch.setattr("probes.diagnostics.neighbours.BLOCK_ROWS", block)
    expected = NearestNeighbors(n_neighbors=5).fit(ROWS).kneighbors(ROWS)[0][:, 1:]
    np.testing.assert_allclose(nearest_distances(ROWS, 4), expected, rtol=1e-5)
    assert nearest_distances(ROWS, 0).shape == (70, 0)


def test_distances_of_close_rows_far_from_the_origin_are_not_rounded_away():
    rows = np.float32([[1000, 0], [1000, 0.001], [0, 0]])
    assert nearest_distances(rows, 1)[:2, 0] == pytest.approx([0.001, 0.001], rel=1e-4)
    assert row_distances(rows[:1], rows[1:2]) == pytest.approx([0.001], rel=1e-4)


def test_equal_rows_are_of_one_kind():
    rows = ROWS[[3, 1, 3, 2, 1, 0]]
    first, kind = distinct_rows(rows)
    assert first.tolist() == [0, 1, 3, 5]
    assert kind.tolist() == [0, 1, 0, 2, 1, 3]
    np.testing.assert_array_equal(rows[first][kind], rows)
    assert len(set(digest_rows(rows))) == len(np.unique(rows, axis=0))


def test_minus_zero_is_zero():
    assert len(set(digest_rows(np.float32([[0.0, 1.0], [-0.0, 1.0]])))) == 1
