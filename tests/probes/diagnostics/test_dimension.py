"""Intrinsic dimension of manifolds that are known."""

import numpy as np
import pytest

from probes.diagnostics.dimension import intrinsic_dimensions


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_flat_manifolds_in_many_coordinates(dimension):
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(3000, dimension)) @ rng.normal(size=(dimension, 30))
    found = intrinsic_dimensions(X.astype(np.float32))
    assert found["TwoNN"] == pytest.approx(dimension, rel=0.12)
    assert found["likelihood"] == pytest.approx(dimension, rel=0.12)


def test_a_curved_surface_has_two_dimensions():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(3000, 3))
    sphere = points / np.linalg.norm(points, axis=1, keepdims=True)
    found = intrinsic_dimensions(sphere.astype(np.float32))
    assert found["TwoNN"] == pytest.approx(2, rel=0.1)
    assert found["likelihood"] == pytest.approx(2, rel=0.1)


def test_equal_rows_count_once_and_few_rows_say_nothing():
    X = np.random.default_rng(2).normal(size=(300, 4)).astype(np.float32)
    assert intrinsic_dimensions(np.repeat(X, 3, axis=0)) == pytest.approx(intrinsic_dimensions(X))
    assert np.isnan(list(intrinsic_dimensions(X[:2]).values())).all()
