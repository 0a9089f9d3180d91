"""The spectrum against numpy's singular value decomposition and scipy's entropy."""

import numpy as np
import pytest
from scipy.stats import entropy

from probes.diagnostics.spectrum import cross_products, effective_rank, singular_values


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (2100, 3)])
def test_singular_values_are_those_of_numpy(shape):
    X = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(singular_values(X), np.linalg.svd(X.astype(np.float64), compute_uv=False), rtol=1e-5)
    np.testing.assert_allclose(cross_products(X, X), X.astype(np.float64).T @ X, rtol=1e-10)


def test_effective_rank_is_the_exponential_of_the_entropy():
    values = np.array([5.0, 3.0, 1.0, 0.0])
    assert effective_rank(values) == pytest.approx(np.exp(entropy(values / values.sum())))
    assert effective_rank(np.ones(8)) == pytest.approx(8)
    assert effective_rank(np.array([2.0, 0.0])) == pytest.approx(1)
    assert effective_rank(np.zeros(3)) == 0


def test_directions_that_are_not_used_have_no_singular_value():
    X = np.random.default_rng(1).normal(size=(50, 2)) @ np.random.default_rng(2).normal(size=(2, 9))
    assert (singular_values(X.astype(np.float64).astype(np.float32))[2:] < 1e-3).all()
