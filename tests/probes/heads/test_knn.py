"""The nearest-neighbour probe against scikit-learn's classifier."""

import tracemalloc
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from sklearn.model_selection import LeaveOneGroupOut, LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

import probes.heads.knn
from probes.heads.knn import KNNProbe, nearest_rows


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = rng.choice([2, 5, 9], 150, p=[0.5, 0.3, 0.2])
    X = rng.normal(size=(150, 8)) + 0.6 * rng.normal(size=(10, 8))[y] + 4
    return X[:100].astype(np.float32), y[:100], X[100:].astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 4, 7])
def test_probabilities_equal_those_of_scikit_learn(data, metric, k):
    X, y, test = data
    probe = KNNProbe(metric, n_neighbors=k).fit(X, y)
    oracle = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(X - X.mean(axis=0), y)
    np.testing.assert_allclose(probe.predict_proba(test), oracle.predict_proba(test - X.mean(axis=0)), atol=1e-6)
    np.testing.assert_array_equal(probe.predict(test), oracle.predict(test - X.mean(axis=0)))
    assert probe.chosen_ == {"k": k}


def test_blocks_change_nothing(data, monkeypatch):
    X, y, test = data
    probe = KNNProbe(n_neighbors=5).fit(X, y)
    whole, chosen = probe.predict_proba(test), KNNProbe().fit(X, y).chosen_
    monkeypatch.setattr(probes.heads.knn, "CELLS", 1)
    monkeypatch.setattr(probes.heads.knn, "FEWEST", 7)
    np.testing.assert_array_equal(probe.predict_proba(test), whole)
    assert KNNProbe().fit(X, y).chosen_ == chosen


@given(st.integers(1, 40), st.integers(2, 40), st.integers(1, 6), st.booleans(), st.integers(0, 99))
def test_nearest_rows_equal_those_of_scikit_learn(n_queries, n_rows, width, skip_own, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, width)).astype(np.float32)
    queries = rows if skip_own else rng.normal(size=(n_queries, width)).astype(np.float32)
    k = int(rng.integers(1, n_rows))
    with patch.multiple(probes.heads.knn, CELLS=1, FEWEST=5):
        found = nearest_rows(queries, rows, k, skip_own=skip_own)
    oracle = NearestNeighbors(n_neighbors=k).fit(rows.astype(np.float64))
    expected, _ = oracle.kneighbors(None if skip_own else queries.astype(np.float64))
    # ComparisonResult by distance: rows that are equally near to some digits may change places.
    distances = np.linalg.norm(queries[:, None] - rows[found], axis=-1)
    np.testing.assert_allclose(distances, expected, atol=2e-3)
    assert not skip_own or (found != np.arange(n_rows)[:, None]).all()


def test_memory_does_not_grow_with_queries_times_rows():
    rng = np.random.default_rng(0)
    queries, rows = (rng.normal(size=(n, 4)).astype(np.float32) for n in (20_000, 6_000))
    tracemalloc.start()
    nearest_rows(queries, rows, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(queries) * len(rows) * queries.itemsize / 4


def test_k_has_the_best_macro_f1_when_each_row_is_left_out(data):
    X, y, _ = data
    centred = X - X.mean(axis=0)
    candidates = (9, 1, 25, 40, 3)

    def score(k):
        model = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
        return f1_score(y, cross_val_predict(model, centred, y, cv=LeaveOneOut()), average="macro")

    scores = [score(k) for k in candidates]
    assert len(set(scores)) == len(scores)
    assert KNNProbe(candidates=candidates).fit(X, y).chosen_["k"] == candidates[int(np.argmax(scores))]


def test_near_copies_of_a_group_do_not_choose_k():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 80)
    alone = rng.normal(size=(80, 4)) + 0.6 * y[:, None]
    X, labels, groups = np.repeat(alone, 3, axis=0), np.repeat(y, 3), np.repeat(np.arange(80), 3)
    X, candidates = X + 1e-3 * rng.normal(size=X.shape), (1, 15, 45)
    centred = X - X.mean(axis=0)

    def score(k):
        model = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
        predicted = cross_val_predict(model, centred, labels, cv=LeaveOneGroupOut(), groups=groups)
        return f1_score(labels, predicted, average="macro")

    assert KNNProbe(candidates=candidates).fit(X, labels).chosen_["k"] == 1
    assert KNNProbe(candidates=candidates).fit(X, labels, groups).chosen_["k"] == max(candidates, key=score) > 1
    assert KNNProbe(candidates=(1, 238)).fit(X, labels, groups).chosen_["k"] == 1  # only 237 rows are left to vote


def test_candidates_beyond_the_rows_are_passed_over(data):
    X, y, test = data
    rows = np.r_[np.flatnonzero(y == 2)[:2], np.flatnonzero(y == 5)[:2]]
    assert KNNProbe(candidates=(3, 4, 50)).fit(X[rows], y[rows]).chosen_ == {"k": 3}
    assert KNNProbe(candidates=(50,)).fit(X[rows], y[rows]).chosen_ == {"k": 1}
    every = KNNProbe(n_neighbors=50).fit(X[rows], y[rows])
    np.testing.assert_array_equal(every.predict_proba(test), 0.5)


def test_the_cosine_sees_only_the_direction_from_the_mean():
    X = np.array([[0, 1], [0, -1], [10, 0], [-10, 0]], dtype=np.float32)
    probe = KNNProbe(n_neighbors=1).fit(X, [0, 1, 2, 3])
    np.testing.assert_array_equal(probe.predict(np.float32([[1, 5], [0.3, 0.1], [-50, 49]])), [0, 2, 3])


def test_an_unknown_metric_is_refused(data):
    with pytest.raises(ValueError, match="cosine or euclidean, not 'cosin'"):
        KNNProbe("cosin").fit(*data[:2])
