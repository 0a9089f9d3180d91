"""A planted outlier comes first."""

import numpy as np
import pytest

from probes.diagnostics.outliers import find_outliers
from probes.diagnostics.sampling import draw_sample


def test_the_most_remote_row_comes_first(features_of):
    values = np.random.default_rng(0).normal(size=(300, 8))
    values[42] += 30
    values[7] -= 12
    features = features_of(values)
    found = find_outliers(features, draw_sample(features, 8192, 0), 5)
    assert found.rows[:2].tolist() == [42, 7]
    assert (np.diff(found.remoteness) <= 0).all()
    assert len(found.rows) == 5


@pytest.mark.parametrize("n_sampled", [300, 80])
def test_remoteness_is_the_distance_to_the_tenth_neighbour_of_the_sample(features_of, n_sampled):
    values = np.random.default_rng(1).standard_t(3, size=(300, 5)).astype(np.float32) + np.float32(7)
    values[5] = values[6]
    features = features_of(values)
    sample = draw_sample(features, n_sampled, 0)
    found = find_outliers(features, sample, 300)
    expected = np.empty(300)
    for row in range(300):
        others = sample.rows[sample.rows != row]
        expected[row] = np.sort(np.linalg.norm(values[others].astype(float) - values[row], axis=1))[9]
    assert sorted(found.rows) == list(range(300))
    assert found.remoteness == pytest.approx(expected[found.rows] / np.median(expected), rel=1e-5)


def test_where_most_rows_are_equal_nothing_is_remote(features_of):
    features = features_of(np.concatenate([np.ones((30, 3)), np.random.default_rng(2).normal(size=(20, 3))]))
    assert len(find_outliers(features, draw_sample(features, 8192, 0), 5).rows) == 0


def test_one_row_has_no_neighbour(features_of):
    features = features_of(np.ones((3, 2)))
    assert len(find_outliers(features, draw_sample(features, 1, 0), 5).rows) == 0
