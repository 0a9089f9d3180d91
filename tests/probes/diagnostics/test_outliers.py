"""A planted outlier comes first."""

import numpy as np

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
