"""The nearest-centroid probe against scikit-learn's classifier."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.metrics import log_loss
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from probes.heads.centroid import CentroidProbe


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = rng.choice([2, 5, 9], 150, p=[0.5, 0.3, 0.2])
    X = (rng.normal(size=(150, 8)) + 0.6 * rng.normal(size=(10, 8))[y]) * rng.uniform(0.1, 9, 8) + 4
    return X[:100].astype(np.float32), y[:100], X[100:].astype(np.float32)


def test_predictions_equal_those_of_scikit_learn(data):
    X, y, test = data
    scaler = StandardScaler().fit(X)
    oracle = NearestCentroid().fit(scaler.transform(X), y)
    np.testing.assert_array_equal(CentroidProbe().fit(X, y).predict(test), oracle.predict(scaler.transform(test)))


@pytest.mark.parametrize("temperature", [0.5, 8.0])
def test_probabilities_are_a_softmax_of_squared_distances(data, temperature):
    X, y, test = data
    scaler = StandardScaler().fit(X)
    means = NearestCentroid().fit(scaler.transform(X), y).centroids_
    expected = softmax(-cdist(scaler.transform(test), means, "sqeuclidean") / temperature, axis=1)
    probe = CentroidProbe(temperature).fit(X, y)
    np.testing.assert_allclose(probe.predict_proba(test), expected, atol=2e-5)
    assert probe.chosen_ == {"temperature": temperature}


def test_the_temperature_minimises_the_loss_of_rows_left_out_one_by_one(data):
    X, y, _ = data
    Z = StandardScaler().fit_transform(X.astype(np.float64))
    keep = ~np.eye(len(y), dtype=bool)
    means = [np.stack([Z[inside & (y == c)].mean(axis=0) for c in np.unique(y)]) for inside in keep]
    distances = np.stack([np.square(z - m).sum(axis=1) for z, m in zip(Z, means, strict=True)])
    found = minimize_scalar(lambda t: log_loss(y, softmax(-distances / t, axis=1)), bounds=(0.1, 500), method="bounded")
    assert CentroidProbe().fit(X, y).chosen_["temperature"] == pytest.approx(found.x, rel=1e-3)


def test_a_group_is_left_out_of_the_means_as_a_whole(data):
    X, y, _ = data
    groups = np.arange(100) // 3
    Z = StandardScaler().fit_transform(X.astype(np.float64))
    means = [np.stack([Z[(groups != g) & (y == c)].mean(axis=0) for c in np.unique(y)]) for g in groups]
    distances = np.stack([np.square(z - m).sum(axis=1) for z, m in zip(Z, means, strict=True)])
    found = minimize_scalar(lambda t: log_loss(y, softmax(-distances / t, axis=1)), bounds=(0.1, 500), method="bounded")
    assert CentroidProbe().fit(X, y, groups).chosen_["temperature"] == pytest.approx(found.x, rel=1e-3)


def test_a_class_of_one_group_is_passed_over(data):
    X, y, _ = data
    groups = np.where(y == 9, -1, np.arange(100))
    assert np.isfinite(CentroidProbe().fit(X, y, groups).chosen_["temperature"])


def test_classes_of_a_single_row_have_probabilities_too(data):
    X, y, test = data
    rows = [int(np.flatnonzero(y == label)[0]) for label in (2, 5, 9)]
    probe = CentroidProbe().fit(X[rows], y[rows])
    np.testing.assert_array_equal(probe.predict(X[rows]), y[rows])
    assert np.isfinite(probe.predict_proba(test)).all()


def test_features_that_tell_nothing_give_equal_probabilities():
    probe = CentroidProbe().fit(np.ones((6, 3)), [0, 1, 0, 1, 0, 1])
    np.testing.assert_allclose(probe.predict_proba(np.ones((2, 3))), 0.5)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_0_is_refused(data, temperature):
    with pytest.raises(ValueError, match="temperature must be above 0"):
        CentroidProbe(temperature).fit(*data[:2])
