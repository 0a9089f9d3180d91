"""Runs of three heads, and features of two variants with their projections."""

import numpy as np
import pytest

from probes.projection import Projection


@pytest.fixture
def runs(make_grid):
    return make_grid(("linear", "mlp", "knn"), ("full-224", "center-224"))


@pytest.fixture
def feature_sets(make_features, make_key):
    labels = np.arange(60) % 3
    return [
        make_features(labels, variant=variant, key=make_key(preprocessing={"crop": variant}), unreadable=unread)
        for variant, unread in (("full-224", {"bad.png": "truncated"}), ("center-224", {"worse.png": "empty"}))
    ]


@pytest.fixture
def projections(feature_sets):
    parameters = {"n_components": 2, "n_neighbors": 15, "min_dist": 0.1, "seed": 0}
    return [Projection(f.values[:, :2], f.values[:, :2], np.array([0.5, 0.25]), parameters) for f in feature_sets]
