"""Temperature scaling: its properties, and temperatures that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from featurestore.errors import ProbeError
from probes.heads.calibration import apply_temperature, fit_temperature

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(2, 5)), elements=st.floats(-12, 12, width=32))


@given(LOGITS)
def test_temperature_one_is_the_identity(logits):
    probabilities = softmax(logits, axis=1)
    np.testing.assert_allclose(apply_temperature(probabilities, 1.0), probabilities, atol=1e-11)


@given(LOGITS, st.floats(0.05, 20))
def test_the_order_of_the_classes_stays(logits, temperature):
    probabilities = softmax(logits, axis=1)
    scaled = apply_temperature(probabilities, temperature)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    largest = probabilities.argmax(axis=1)
    np.testing.assert_array_equal(scaled[np.arange(len(scaled)), largest], scaled.max(axis=1))


@given(LOGITS, st.integers(0, 2**32 - 1))
def test_the_loss_never_gets_worse_on_the_calibration_rows(logits, seed):
    probabilities = softmax(logits, axis=1)
    n, n_classes = probabilities.shape
    y = np.random.default_rng(seed).integers(0, n_classes, n)
    scaled = apply_temperature(probabilities, fit_temperature(probabilities, y))

    def loss(p):
        return -np.log(np.maximum(p[np.arange(n), y], 1e-300)).mean()

    assert loss(scaled) <= loss(probabilities) + 1e-9


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_rows_that_no_temperature_improves_keep_one(share):
    assert fit_temperature(np.tile([share, 1 - share], (4, 1)), np.array([0, 0, 0, 1])) == 1.0


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found(true):
    rng = np.random.default_rng(0)
    honest = 2 * rng.normal(size=(20_000, 4))
    y = (softmax(honest, axis=1).cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(softmax(honest * true, axis=1), y) == pytest.approx(true, rel=0.05)


def test_it_is_the_minimum_of_the_loss():
    rng = np.random.default_rng(1)
    logits, y = 5 * rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
    grid = np.geomspace(0.05, 20, 1000)
    best = grid[np.argmin([-log_softmax(logits / t, axis=1)[np.arange(200), y].mean() for t in grid])]
    assert fit_temperature(softmax(logits, axis=1), y) == pytest.approx(best, rel=5e-3)
    np.testing.assert_allclose(
        np.log(apply_temperature(softmax(logits, axis=1), 2.5)), log_softmax(logits / 2.5, axis=1), atol=1e-5
    )


def test_votes_of_zero_and_perfect_rows_stay_finite():
    votes = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]], dtype=np.float32)
    hot = fit_temperature(votes, np.array([1, 1, 2, 0]))
    assert 1 < hot <= 20
    assert np.isfinite(np.log(apply_temperature(votes, hot))).all()
    assert 0.05 <= fit_temperature(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])) < 0.06


@pytest.mark.parametrize(
    ("probabilities", "y", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=int), "0 labels for 0 rows"),
        (np.full((4, 2), 0.5), np.zeros(3, dtype=int), "3 labels for 4 rows"),
        (np.full((2, 2), 0.5), np.array([0, 2]), "labels from 0 to 2 for 2 classes"),
        (np.full((2, 2), 0.5), np.array([-1, 0]), "labels from -1 to 0"),
        (np.array([[2.0, -1.0]]), np.array([0]), "not probabilities"),
        (np.array([[np.nan, 1.0]]), np.array([0]), "not probabilities"),
        (np.array([0.5, 0.5]), np.array([0]), "not probabilities"),
    ],
)
def test_rows_that_do_not_fit_are_refused(probabilities, y, message):
    with pytest.raises(ProbeError, match=message):
        fit_temperature(probabilities, y)


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan])
def test_temperatures_not_above_zero_are_refused(temperature):
    with pytest.raises(ProbeError, match="Give one above 0"):
        apply_temperature(np.full((1, 2), 0.5), temperature)
