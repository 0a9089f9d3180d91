"""Whitening against its definition and scikit-learn, and the probe on whitened features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from probes.heads.linear import LinearProbe, WhitenedProbe
from probes.heads.mlp import MLPProbe, WhitenedMLPProbe
from probes.heads.whitening import Whitening
from probes.solvers.factorisation import factorise


def make_rows(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * rng.uniform(0.01, 100, d) + 50 * rng.normal(size=d)


@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 2**32 - 1), st.sampled_from(["pca", "zca"]))
@settings(max_examples=40)
def test_the_covariance_of_the_training_rows_becomes_the_identity(d, more, seed, kind):
    X = make_rows(3 * d + 10 + more, d, seed)
    Z = Whitening(kind, shrinkage=0.0).fit_transform(X)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.atleast_2d(np.cov(Z.T, ddof=0)), np.eye(d), atol=1e-5)


def test_pca_equals_scikit_learns_whitening_of_standardised_rows():
    X = make_rows(80, 6)
    ours = Whitening(shrinkage=0.0, rank=4).fit_transform(X)
    theirs = PCA(4, whiten=True).fit_transform(StandardScaler().fit_transform(X)) * np.sqrt(80 / 79)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-8)


def test_zca_is_the_rotation_nearest_to_the_standardised_features():
    X = make_rows(80, 6)
    whitening = Whitening("zca", shrinkage=0.0).fit(X)
    root = whitening.components_ * X.std(axis=0)
    np.testing.assert_allclose(root, root.T, atol=1e-8)
    np.testing.assert_allclose(root @ root @ np.corrcoef(X.T), np.eye(6), atol=1e-6)


@pytest.mark.parametrize("kind", ["pca", "zca"])
@pytest.mark.parametrize("shape", [(60, 9), (2000, 2), (14, 12), (14, 30)], ids=str)
def test_the_default_is_the_metric_of_ledoit_and_wolf(shape, kind):
    X = make_rows(*shape)
    whitening = Whitening(kind).fit(X)
    Z = whitening.transform(X)
    S = StandardScaler().fit_transform(X)
    oracle = LedoitWolf(assume_centered=True).fit(S)
    assert whitening.shrinkage_ == pytest.approx(oracle.shrinkage_)
    np.testing.assert_allclose(Z @ Z.T, S @ oracle.precision_ @ S.T, atol=1e-6)


@pytest.mark.parametrize("n", [2, 20, 49])
def test_the_shrinkage_of_fewer_rows_than_columns_is_that_of_ledoit_and_wolf(n):
    X = make_rows(n, 50)
    oracle = LedoitWolf(assume_centered=True).fit(StandardScaler().fit_transform(X))
    assert Whitening().fit(X).shrinkage_ == pytest.approx(oracle.shrinkage_)


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_with_fewer_rows_than_columns_only_their_directions_are_kept(kind):
    X = make_rows(20, 50)
    whitening = Whitening(kind, shrinkage=0.0).fit(X)
    Z = whitening.transform(X)
    assert whitening.rank_ == 19
    assert Z.shape == (20, 19 if kind == "pca" else 50)
    np.testing.assert_allclose(Z @ Z.T / 20, np.eye(20) - 1 / 20, atol=1e-8)


def test_shrinkage_one_only_standardises():
    X = make_rows(60, 9)
    Z = Whitening("zca", shrinkage=1.0).fit_transform(X)
    np.testing.assert_allclose(Z, StandardScaler().fit_transform(X), atol=1e-8)


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e4])
def test_a_constant_column_is_no_direction(offset):
    X = np.insert(make_rows(60, 5), 2, offset, axis=1)
    whitening = Whitening(shrinkage=0.0).fit(X)
    assert whitening.rank_ == 5
    np.testing.assert_allclose(whitening.components_[:, 2], 0, atol=1e-8)


def test_features_that_are_all_constant_are_refused():
    with pytest.raises(ValueError, match="every feature is constant"):
        Whitening().fit(np.full((10, 3), 0.1))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"kind": "zac"}, "pca or zca"), ({"shrinkage": 1.5}, "between 0 and 1"), ({"rank": 0}, "1 or more, not 0")],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Whitening(**parameters).fit(make_rows(10, 3))


@pytest.fixture
def labelled():
    X = make_rows(120, 10, seed=4)
    return X.astype(np.float32), np.random.default_rng(4).integers(0, 3, 120) + (X[:, 0] > X[:, 0].mean())


def test_the_probe_is_logistic_regression_on_whitened_features(labelled):
    X, y = labelled
    probe = WhitenedProbe(shrinkage=0.2, rank=7, Cs=(0.1,)).fit(X, y)
    Z = Whitening(shrinkage=0.2, rank=7).fit_transform(X.astype(np.float64))
    oracle = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=1000).fit(Z, y)
    np.testing.assert_allclose(probe.predict_proba(X), oracle.predict_proba(Z), atol=2e-3)
    assert probe.chosen_["rank"] == 7
    assert probe.chosen_["shrinkage"] == 0.2


def test_the_kinds_give_the_same_cv_probe(labelled):
    X, y = labelled
    pca, zca = (WhitenedProbe(whitening=kind, Cs=(0.1,)).fit(X, y).predict_proba(X) for kind in ("pca", "zca"))
    np.testing.assert_allclose(pca, zca, atol=2e-3)


@pytest.mark.parametrize("protocol", ["cv", "paper"])
def test_full_shrinkage_gives_the_linear_probe(labelled, protocol):
    X, y = labelled
    settings = {"protocol": protocol, "random_state": 3, "learning_rate": 0.05, "Cs": (1e-2,)}
    whitened = WhitenedProbe(whitening="zca", shrinkage=1.0, **settings).fit(X, y)
    linear = LinearProbe(**settings).fit(X, y)
    np.testing.assert_allclose(whitened.predict_proba(X), linear.predict_proba(X), atol=2e-3)
    assert whitened.chosen_.items() >= linear.chosen_.items()


@pytest.mark.parametrize("settings", [{}, {"protocol": "paper", "whitening": "zca"}], ids=str)
def test_a_factorisation_that_is_handed_over_is_not_computed_again(labelled, monkeypatch, settings):
    X, y = labelled
    found = factorise(X)
    alone = WhitenedProbe(**settings).fit(X, y)
    monkeypatch.delattr("probes.heads.whitening.factorise")
    monkeypatch.delattr("probes.heads.linear.factorise")
    given = WhitenedProbe(**settings).fit(X, y, shared=found)
    np.testing.assert_array_equal(given.predict_proba(X), alone.predict_proba(X))


@pytest.mark.parametrize("protocol", ["cv", "paper"])
@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_the_mlp_on_whitened_rows_is_the_mlp_on_rows_whitened_beforehand(labelled, protocol, kind):
    X, y = labelled
    settings = {"protocol": protocol, "epochs": 8, "learning_rate": 0.01}
    whitening = Whitening(kind, shrinkage=0.0).fit(X[:90])
    probe = WhitenedMLPProbe(whitening=kind, shrinkage=0.0, **settings).fit(X[:90], y[:90], X[90:], y[90:])
    # Rows whitened without shrinkage are standardised: the plain MLP changes nothing more about them.
    plain = MLPProbe(**settings).fit(whitening.transform(X[:90]), y[:90], whitening.transform(X[90:]), y[90:])
    np.testing.assert_allclose(probe.predict_proba(X), plain.predict_proba(whitening.transform(X)), atol=2e-3)
    assert probe.chosen_ == plain.chosen_ | {"shrinkage": 0.0, "rank": 10}


def test_the_mlp_whitens_by_the_rows_it_learns_from_alone(labelled):
    X, y = labelled
    first = WhitenedMLPProbe(epochs=2).fit(X[:90], y[:90], X[90:], y[90:])
    second = WhitenedMLPProbe(epochs=2).fit(X[:90], y[:90], 5 * X[90:] + 1, y[90:])
    np.testing.assert_array_equal(first.whitening_.components_, second.whitening_.components_)
    held_out = WhitenedMLPProbe(epochs=2).fit(X, y)
    assert held_out.chosen_["held_out"] > 0
    assert not np.array_equal(held_out.whitening_.mean_, Whitening().fit(X).mean_)
