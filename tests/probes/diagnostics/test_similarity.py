"""CKA: its definition, and what it does not see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from probes.diagnostics.sampling import FeatureSample
from probes.diagnostics.similarity import align_samples, linear_cka

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)).astype(np.float32)
Y = (X @ RNG.normal(size=(5, 8)) + RNG.normal(size=(60, 8))).astype(np.float32)


def hsic(K, L):
    """Unbiased estimate of Song et al. 2012, from the full matrices."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    ones = np.ones(n)
    whole = np.trace(K @ L) + (ones @ K @ ones) * (ones @ L @ ones) / ((n - 1) * (n - 2))
    return whole - 2 / (n - 2) * (ones @ K @ L @ ones)


def test_both_are_those_of_the_kernel_matrices():
    K, L = ((Z - Z.mean(axis=0)) @ (Z - Z.mean(axis=0)).T for Z in (X.astype(float), Y.astype(float)))
    biased, debiased = linear_cka(X, Y)
    assert biased == pytest.approx((K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum()), rel=1e-5)
    assert debiased == pytest.approx(hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L)), rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-10, 10))
def test_rotation_scale_and_shift_do_not_matter(seed, scale, shift):
    turned = (scale * (X @ ortho_group.rvs(5, random_state=seed)) + shift).astype(np.float32)
    assert linear_cka(X, turned) == pytest.approx((1, 1), abs=1e-3)
    assert linear_cka(turned, Y) == pytest.approx(linear_cka(X, Y), abs=1e-3)


def test_unrelated_features_are_unlike_only_without_bias():
    rng = np.random.default_rng(3)
    biased, debiased = linear_cka(*rng.normal(size=(2, 100, 200)).astype(np.float32))
    assert biased > 0.5
    assert abs(debiased) < 0.1


def test_rows_are_matched_by_id():
    def sample(names, values):
        return FeatureSample(np.arange(len(names)), tuple(names), values, values.mean(axis=0))

    names = [f"s{row}" for row in range(60)]
    order = np.random.default_rng(1).permutation(60)
    found = align_samples(sample(names, X), sample([names[row] for row in order[:40]], Y[order[:40]]))
    assert found.rows == 40
    kept = np.sort(order[:40])
    assert found[:2] == pytest.approx(linear_cka(X[kept], Y[kept]), rel=1e-5)
    assert align_samples(sample(names, X), sample(["other"], Y[:1])).rows == 0
