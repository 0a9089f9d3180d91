"""The MLP probe: rows to stop on, the study's optimiser, and what it refuses."""

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.metrics import f1_score

import probes.heads.mlp
from probes.heads.folds import hold_out
from probes.heads.linear import LinearProbe
from probes.heads.mlp import MLPProbe
from probes.solvers.network import initialise
from probes.solvers.optimisers import LabelledRows, Schedule, descend


@pytest.fixture
def moons():
    X, y = make_moons(400, noise=0.15, random_state=0)
    return X.astype(np.float32), y


def test_it_learns_what_a_linear_layer_cannot(moons):
    X, y = moons
    heads = MLPProbe(learning_rate=5e-3), LinearProbe()
    mlp, linear = (head.fit(X[:300], y[:300]).score(X[300:], y[300:]) for head in heads)
    assert mlp > 0.95 > linear


def test_without_validation_rows_a_stratified_part_is_held_out(moons):
    X, y = moons
    kept = np.r_[np.flatnonzero(y == 0)[:100], np.flatnonzero(y == 1)[:24]]
    probe = MLPProbe().fit(X[kept], y[kept])
    assert probe.chosen_["held_out"] == 15 + 4
    assert MLPProbe().fit(X, y, X[:50], y[:50]).chosen_["held_out"] == 0
    assert MLPProbe("paper", epochs=1).fit(X, y).chosen_["held_out"] == 0


def test_groups_are_held_out_whole(moons, monkeypatch):
    X, y = moons
    groups, seen = np.arange(400) // 8, []
    monkeypatch.setattr(probes.heads.mlp, "hold_out", lambda *given: seen.append(hold_out(*given)) or seen[-1])
    probe = MLPProbe(epochs=2).fit(X, y, groups=groups)
    (held,) = seen
    assert not set(groups[held]) & set(groups[~held])
    assert 40 <= probe.chosen_["held_out"] == held.sum() <= 80


def test_rare_classes_keep_all_their_rows(moons):
    X, y = moons
    rows = np.r_[np.flatnonzero(y == 0)[:3], np.flatnonzero(y == 1)[:3]]
    probe = MLPProbe(epochs=5).fit(X[rows], y[rows])
    assert probe.chosen_ == {"epochs": 5, "hidden": 256, "held_out": 0}


def test_it_stops_on_the_rows_that_are_given(moons):
    X, y = moons
    noisy = np.where(np.random.default_rng(0).random(len(y)) < 0.2, 1 - y, y)
    valid = X[200:], noisy[200:]
    probe = MLPProbe(patience=30, learning_rate=5e-3).fit(X[:200], noisy[:200], *valid)
    longer = MLPProbe(patience=1, epochs=probe.chosen_["epochs"], learning_rate=5e-3).fit(X[:200], noisy[:200], *valid)
    scores = [f1_score(valid[1], head.predict(valid[0]), average="macro") for head in (probe, longer)]
    assert scores[0] >= scores[1]
    flipped = MLPProbe(patience=30, learning_rate=5e-3).fit(X[:200], noisy[:200], X[200:], 1 - noisy[200:])
    assert flipped.chosen_["epochs"] != probe.chosen_["epochs"]


def test_the_labels_of_the_validation_rows_are_mapped_to_the_classes(moons):
    X, y = moons
    names = np.array(["spiral", "edge"])[y]
    by_name = MLPProbe(epochs=8).fit(X[:300], names[:300], X[300:], names[300:])
    by_number = MLPProbe(epochs=8).fit(X[:300], 1 - y[:300], X[300:], 1 - y[300:])
    np.testing.assert_array_equal(by_name.coef_, by_number.coef_)
    assert by_name.chosen_ == by_number.chosen_


def test_the_standardisation_is_folded_into_the_first_layer(moons):
    X, y = moons
    odd = X * np.float32([1000, 0.01]) + np.float32([5, -3])
    plain, scaled = MLPProbe(epochs=10).fit(X, y), MLPProbe(epochs=10).fit(odd, y)
    np.testing.assert_allclose(plain.predict_proba(X), scaled.predict_proba(odd), atol=2e-3)


def test_paper_is_sgd_on_standardised_features_with_as_many_hidden_units_as_features(moons):
    X, y = moons
    X, y = np.hstack([X, X**2, X**3]), np.where(np.arange(400) % 4 == 0, 1, y)
    probe = MLPProbe("paper", random_state=5, epochs=6, learning_rate=0.05).fit(X, y, X[:9], y[:9])
    rng = np.random.default_rng(5)
    std = X.std(axis=0)
    rows = LabelledRows((X - X.mean(axis=0)) / std, y, (400 / 2 / np.bincount(y)).astype(np.float32))
    layers = descend(initialise([6, 6, 2], rng), rows, Schedule(0.05, 64, 6), rng)
    np.testing.assert_allclose(probe.hidden_coef_ * std, layers[0][0], atol=1e-4)
    np.testing.assert_allclose(probe.coef_, layers[1][0], atol=1e-4)
    assert probe.chosen_ == {"epochs": 6, "hidden": 6, "held_out": 0}


@pytest.mark.parametrize(
    ("X_valid", "y_valid", "message"),
    [
        (np.zeros((2, 3)), [0, 1], "X_valid has 3 features, and X has 2"),
        (np.zeros((2, 2)), [0, 7], "y_valid has labels that y has not: 7"),
        (np.full((2, 2), np.nan), [0, 1], "NaN"),
        (np.zeros((2, 2)), None, "y"),
    ],
)
def test_validation_rows_that_do_not_fit_are_refused(moons, X_valid, y_valid, message):
    with pytest.raises(ValueError, match=message):
        MLPProbe().fit(*moons, X_valid, y_valid)
