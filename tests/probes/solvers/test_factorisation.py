"""The factorisation against numpy and scikit-learn; sharing it."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import StandardScaler

import probes.solvers.factorisation
from probes.solvers.factorisation import SharedRows, factorise
from probes.solvers.scaling import find_scaling


def make_rows(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 5 * rng.normal(size=d)).astype(np.float32)


@pytest.mark.parametrize("shape", [(50, 8), (9, 8), (8, 8), (6, 20), (2, 5)], ids=str)
def test_eigenvalues_and_directions_are_those_of_the_correlations(shape, monkeypatch):
    monkeypatch.setattr(probes.solvers.factorisation, "BLOCK_ROWS", 7)
    X = make_rows(*shape)
    found = factorise(X)
    Z = StandardScaler().fit_transform(X.astype(np.float64))
    R = Z.T @ Z / len(Z)
    rank = min(shape[0] - 1, shape[1])
    assert found.directions.shape == (rank, shape[1])
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(R)[::-1][:rank], atol=1e-4)
    np.testing.assert_allclose((found.directions.T * found.eigenvalues) @ found.directions, R, atol=1e-4)
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(rank), atol=1e-8)
    assert found.shrinkage == pytest.approx(LedoitWolf(assume_centered=True).fit(Z).shrinkage_, abs=1e-4)


@pytest.mark.parametrize("shape", [(50, 8), (6, 20)], ids=str)
def test_projected_rows_are_uncorrelated_and_keep_their_distances(shape):
    X = make_rows(*shape)
    found = factorise(X)
    U = found.axes(found.scaling).project(X)
    Z = found.scaling.project(X)
    np.testing.assert_allclose(U.T @ U / len(U), np.diag(found.eigenvalues), atol=1e-4)
    np.testing.assert_allclose(U @ U.T, Z @ Z.T, atol=1e-3)


@pytest.mark.parametrize("of", ["scaling", "axes"])
def test_coefficients_of_the_coordinates_are_pulled_back_to_centred_rows(of):
    X = make_rows(30, 6)
    found = factorise(X)
    place = found.scaling if of == "scaling" else found.axes(find_scaling(X[:10]))
    coef = np.random.default_rng(1).normal(size=(3, 6))
    np.testing.assert_allclose(place.project(X) @ coef.T, (X - place.mean) @ place.to_input_space(coef).T, atol=1e-4)


def test_many_threads_compute_it_once(monkeypatch):
    values, rows = make_rows(40, 5), np.arange(30)
    calls = []
    monkeypatch.setattr(probes.solvers.factorisation, "factorise", lambda X: calls.append(len(X)) or factorise(X))
    shared = SharedRows(values)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(shared.exact, [rows, rows[::-1], rows, rows[10:], rows]))
    assert sorted(calls) == [20, 30]
    assert all(one is found[0] for one in (found[1], found[2], found[4]))


def test_rows_share_the_directions_of_their_pool_only_where_these_are_a_basis():
    values = make_rows(40, 5)
    shared, pool, rows = SharedRows(values), np.arange(40), np.arange(10)
    assert shared.similar(rows, pool) is shared.exact(pool)
    assert shared.similar(rows[:4], pool) is shared.exact(rows[:4])
    values[:, 2] = 1
    constant = SharedRows(values)
    assert constant.similar(rows, pool) is constant.exact(rows)


def test_standardised_rows_are_shared_while_a_head_uses_them():
    values, rows = make_rows(40, 5), np.arange(5, 30)
    shared = SharedRows(values)
    found = shared.standardised(rows)
    np.testing.assert_allclose(found.values, StandardScaler().fit_transform(values[rows]), rtol=1e-5, atol=1e-6)
    assert shared.standardised(rows.copy()) is found
    assert shared.standardised(rows[::-1]) is not found
    let_go = weakref.ref(found)
    del found
    assert let_go() is None
