"""Standardisation against scikit-learn; alignment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from probes.solvers.scaling import (
    BLOCK_ROWS,
    CACHE_LINE,
    align,
    find_exponent,
    find_scaling,
    is_aligned,
    rescale,
    standardise,
)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.sampled_from([1, 2, BLOCK_ROWS - 1, BLOCK_ROWS, 3 * BLOCK_ROWS + 1]),
    offset=st.floats(-1e4, 1e4),
    spread=st.sampled_from([0.0, 1e-6, 1.0, 1e6]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_scaling_is_that_of_scikit_learn_constant_columns_included(seed, n, offset, spread, dtype):
    X = (np.random.default_rng(seed).normal(size=(n, 3)) * [0, spread, 1] + offset).astype(dtype)
    found, expected = find_scaling(X), StandardScaler().fit(X)
    np.testing.assert_allclose(found.mean, expected.mean_, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.scale, expected.scale_, rtol=1e-6)
    assert found.scale[0] == 1


def test_rows_standardised_on_themselves():
    X = np.random.default_rng(0).normal(3, 2, size=(100, 5)).astype(np.float32)
    rows = standardise(X)
    np.testing.assert_allclose(rows.values, StandardScaler().fit_transform(X), rtol=1e-5, atol=1e-6)
    assert rows.values.dtype == np.float32
    assert is_aligned(rows.values)


@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (1000,)], ids=str)
def test_aligned_copies_start_at_a_cache_line(shape):
    values = np.arange(np.prod(shape) + 1, dtype=np.float32)[1:].reshape(shape)
    copy = align(np.asfortranarray(values))
    np.testing.assert_array_equal(copy, values)
    assert copy.ctypes.data % CACHE_LINE == 0
    assert is_aligned(copy)
    assert not np.shares_memory(copy, values)


def test_an_array_in_another_order_is_not_aligned():
    assert not is_aligned(align(np.ones((4, 16), np.float32)).T)


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1.0, 1e11, 1e13, 1e38])
def test_rescaled_values_can_be_squared_and_keep_their_digits(scale):
    values = np.array([0.3, -1.7, 0.0], np.float32) * np.float32(scale)
    other = values / 2
    one, half = rescale(values, other)
    assert (one is values) == (1e-12 < scale < 1e12)
    assert np.isfinite(np.square(one)).all() and np.square(one[:2]).all()
    np.testing.assert_array_equal(half, one / 2)
    np.testing.assert_array_equal(np.ldexp(one, find_exponent(values)), values)
