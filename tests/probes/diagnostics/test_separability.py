"""Separability against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import calinski_harabasz_score, silhouette_score
from sklearn.neighbors import NearestNeighbors

from probes.diagnostics.separability import separability

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2], [40, 30, 20])
VALUES = (RNG.normal(size=(90, 6)) + 2 * np.eye(3, 6)[LABELS]).astype(np.float32)


def test_measures_are_those_of_scikit_learn():
    found = separability(VALUES, LABELS)
    assert found["Fisher ratio"] * 87 / 2 == pytest.approx(calinski_harabasz_score(VALUES, LABELS), rel=1e-5)
    assert found["silhouette"] == pytest.approx(silhouette_score(VALUES, LABELS))
    near = NearestNeighbors(n_neighbors=11).fit(VALUES).kneighbors(VALUES, return_distance=False)[:, 1:]
    same = (LABELS[near] == LABELS[:, None]).mean(axis=1)
    assert found["purity"] == pytest.approx(np.mean([same[label == LABELS].mean() for label in range(3)]))
    assert found["purity by chance"] == pytest.approx(np.mean([39 / 89, 29 / 89, 19 / 89]))


def test_one_class_or_one_point_is_not_separable():
    assert np.isnan(list(separability(VALUES, np.zeros(90, int)).values())).all()
    assert np.isnan(list(separability(np.ones((9, 2), np.float32), np.arange(9) % 3).values())).all()


def test_a_class_of_one_row_is_left_out():
    labels = np.concatenate([LABELS, [3]])
    values = np.concatenate([VALUES, VALUES[:1] * 50])
    assert separability(values, labels) == pytest.approx(separability(VALUES, LABELS))
