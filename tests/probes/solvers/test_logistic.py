"""The batched logistic regressions against scikit-learn."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import probes.solvers.logistic
from probes.solvers.logistic import MemoryRows, Problems, judge, solve

CS = (1e-3, 1e-1, 10.0)


def make_rows(n=150, d=8, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    X = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.5 + 0.5 * rng.normal(size=(n_classes, d))[y]
    return (X - X.mean(axis=0)).astype(np.float32), y


def fit_sklearn(X, y, C, weights):
    model = LogisticRegression(C=C, tol=1e-9, max_iter=10_000)
    return model.fit(X.astype(np.float64), y, sample_weight=weights)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_weighting_at_every_C_is_scikit_learns_optimum(n_classes):
    X, y = make_rows(n_classes=n_classes)
    rng = np.random.default_rng(1)
    weights = np.stack([rng.uniform(0, 2, len(y)), np.arange(len(y)) % 3 > 0, np.ones(len(y))]).astype(np.float32)
    found = solve(MemoryRows(X), Problems(y, n_classes, weights, CS), tol=1e-5)
    assert found.shape == (3, 3, n_classes, 9)
    for w, s in np.ndindex(3, 3):
        oracle = fit_sklearn(X, y, CS[s], weights[w])
        coef, intercept = found[w, s, :, :-1], found[w, s, :, -1]
        logits = X @ coef.T + intercept
        theirs = oracle.decision_function(X.astype(np.float64))
        mine = logits[:, 1] - logits[:, 0] if n_classes == 2 else logits - logits.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(mine, theirs, atol=5e-3 * max(1, np.abs(theirs).max()))
        assert (logits.argmax(axis=1) == oracle.predict(X.astype(np.float64))).mean() > 0.98


def test_rows_are_judged_by_the_cross_entropy_of_their_class(monkeypatch):
    X, y = make_rows()
    coefficients = np.random.default_rng(4).normal(size=(5, 3, 9)).astype(np.float32)
    monkeypatch.setattr(probes.solvers.logistic, "BLOCK_ROWS", 7)
    some = np.arange(len(X)) % 4 > 0
    predicted, losses = judge(MemoryRows(X).take(some), coefficients, y[some])
    assert predicted.shape == losses.shape == (5, some.sum())
    for s, each in enumerate(coefficients):
        probabilities = softmax(X[some] @ each[:, :-1].T + each[:, -1], axis=1)
        np.testing.assert_array_equal(predicted[s], probabilities.argmax(axis=1))
        assert losses[s].mean() == pytest.approx(log_loss(y[some], probabilities), rel=1e-4)


def test_the_size_of_the_blocks_does_not_matter(monkeypatch):
    X, y = make_rows()
    problems = Problems(y, 3, np.ones((1, len(y)), np.float32), CS)
    whole = solve(MemoryRows(X), problems, tol=1e-4)
    monkeypatch.setattr(probes.solvers.logistic, "BLOCK_ROWS", 7)
    np.testing.assert_allclose(solve(MemoryRows(X), problems, tol=1e-4), whole, atol=1e-3 * np.abs(whole).max())


class RawRows:
    """Rows of correlated columns, with a basis for each weighting, in uneven blocks."""

    def __init__(self, X, bases):
        self._values = np.hstack([X, np.ones((len(X), 1), np.float32)])
        self.shape = self._values.shape
        self.basis = np.stack(bases)
        self.variances = np.einsum("nk,nk->k", *[self._values @ bases[0].T] * 2) / len(X)

    def __iter__(self):
        for rows in (slice(0, 11), slice(11, 100), slice(100, len(self._values))):
            yield rows, self._values[rows]


def test_rows_that_stay_as_they_are_give_the_fit_of_projected_rows():
    X, y = make_rows()
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(8, 8)).astype(np.float32)
    scales = np.float32([1.0, 3.0])
    bases = []
    for scale in scales:
        basis = np.eye(9, dtype=np.float32)
        basis[:8, :8] = scale * np.linalg.inv(mixing).T
        bases.append(basis)
    problems = Problems(y, 3, np.ones((2, len(y)), np.float32), [0.1])
    raw = RawRows(X @ mixing, bases)
    found = solve(raw, problems, tol=1e-5)
    for w, scale in enumerate(scales):
        own = Problems(y, 3, np.ones((1, len(y)), np.float32), [0.1])
        np.testing.assert_allclose(found[w], solve(MemoryRows(scale * X), own, tol=1e-5)[0], atol=2e-3)


def test_the_start_does_not_matter_for_the_end():
    X, y = make_rows()
    problems = Problems(y, 3, np.ones((1, len(y)), np.float32), [0.1])
    start = np.random.default_rng(3).normal(size=(1, 1, 3, 9)).astype(np.float32)
    start -= start.mean(axis=2, keepdims=True)
    ends = [solve(MemoryRows(X), problems, tol=1e-5, start=first) for first in (None, start)]
    np.testing.assert_allclose(*ends, atol=2e-3)
