import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as oracle

from featurestore.errors import ProbeError
from probes.metrics import bootstrap_difference, expected_calibration_error, score


@pytest.fixture
def predictions():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 300)
    logits = rng.normal(size=(300, 4)) + 1.5 * np.eye(4)[truth]
    return truth, softmax(logits, axis=1)


def test_scores_equal_scikit_learn(predictions):
    truth, probabilities = predictions
    predicted, scores = probabilities.argmax(axis=1), score(truth, probabilities.astype(np.float32))
    assert scores.per_class["f1"] == pytest.approx(oracle.f1_score(truth, predicted, average=None))
    assert scores.per_class["precision"] == pytest.approx(oracle.precision_score(truth, predicted, average=None))
    assert scores.per_class["recall"] == pytest.approx(oracle.recall_score(truth, predicted, average=None))
    assert scores.per_class["support"].tolist() == np.bincount(truth).tolist()
    assert scores.macro["f1"] == pytest.approx(oracle.f1_score(truth, predicted, average="macro"))
    assert scores.macro["auroc"] == pytest.approx(
        oracle.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro"), abs=1e-6
    )
    assert scores.overall["accuracy"] == pytest.approx(oracle.accuracy_score(truth, predicted))
    assert scores.overall["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(truth, predicted))
    assert scores.overall["log_loss"] == pytest.approx(oracle.log_loss(truth, probabilities), abs=1e-5)
    assert scores.overall["support"] == 300


def test_binary_auroc_is_that_of_the_positive_class():
    truth, positive = np.array([0, 0, 1, 1, 0, 1]), np.array([0.1, 0.6, 0.7, 0.4, 0.2, 0.9])
    scores = score(truth, np.stack([1 - positive, positive], axis=1))
    assert scores.macro["auroc"] == pytest.approx(oracle.roc_auc_score(truth, positive))


def test_a_class_that_was_never_predicted_scores_0_and_counts():
    truth = np.array([0, 0, 1, 1, 2])
    scores = score(truth, np.eye(3)[[0, 0, 1, 1, 0]])
    assert scores.per_class["f1"].tolist() == [0.8, 1.0, 0.0]
    assert scores.macro["f1"] == pytest.approx(0.6)
    assert scores.macro["precision"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert math.isfinite(scores.overall["log_loss"])


def test_a_class_without_test_rows_is_nan_and_stands_in_no_mean():
    truth = np.array([0, 0, 1, 1])
    scores = score(truth, np.eye(3)[[0, 0, 1, 2]])
    assert scores.per_class["f1"].tolist() == pytest.approx([1.0, 2 / 3, math.nan], nan_ok=True)
    assert scores.macro["f1"] == pytest.approx(5 / 6)
    assert scores.overall["balanced_accuracy"] == pytest.approx(0.75)


def test_auroc_is_nan_where_only_one_class_was_tested():
    scores = score(np.array([1, 1, 1]), np.full((3, 2), 0.5))
    assert math.isnan(scores.macro["auroc"])
    assert scores.overall["accuracy"] == 0.0


def test_calibration_error_by_hand():
    # (11/15, 12/15] holds 0.78 twice, (8/15, 9/15] holds 0.6 and 0.58, the last bin a certain row without error
    probabilities = np.array([[0.78, 0.22], [0.78, 0.22], [0.4, 0.6], [0.58, 0.42], [1.0, 0.0]])
    expected = abs(1 - 2 * 0.78) / 5 + abs(1 - 0.6 - 0.58) / 5
    assert expected_calibration_error(np.array([0, 1, 1, 1, 0]), probabilities) == pytest.approx(expected)


def test_calibration_error_follows_its_formula(predictions):
    truth, probabilities = predictions
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    edges, total = np.linspace(0, 1, 16), 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(truth, probabilities) == pytest.approx(total)


def two_runs(n=400, gain=0.1):
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, n)
    first = np.where(rng.random(n) < 0.6, truth, rng.integers(0, 3, n))
    second = np.where(rng.random(n) < gain, truth, first)
    return truth, first, second


@pytest.mark.parametrize("metric", ["f1", "precision", "recall", "accuracy"])
def test_the_difference_equals_scikit_learn(metric):
    truth, first, second = two_runs()
    if metric == "accuracy":
        expected = oracle.accuracy_score(truth, second) - oracle.accuracy_score(truth, first)
    else:
        function = getattr(oracle, f"{metric}_score")
        expected = function(truth, second, average="macro") - function(truth, first, average="macro")
    result = bootstrap_difference(truth, first, second, metric)
    assert result.value == pytest.approx(expected)
    assert result.low < result.value < result.high


def test_the_interval_is_that_of_resampling_rows_one_by_one():
    truth, first, second = two_runs()
    rng = np.random.default_rng(1)
    differences = []
    for _ in range(500):
        rows = rng.integers(0, len(truth), len(truth))
        scores = [oracle.f1_score(truth[rows], run[rows], average="macro") for run in (second, first)]
        differences.append(scores[0] - scores[1])
    result = bootstrap_difference(truth, first, second, n_resamples=4000)
    assert [result.low, result.high] == pytest.approx(np.quantile(differences, [0.025, 0.975]).tolist(), abs=0.006)


def test_a_run_does_not_differ_from_itself_and_seeds_repeat():
    truth, first, second = two_runs()
    same = bootstrap_difference(truth, first, first)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert bootstrap_difference(truth, first, second) == bootstrap_difference(truth, first, second)
    assert bootstrap_difference(truth, first, second) != bootstrap_difference(truth, first, second, seed=1)


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=40), st.sampled_from(["f1", "accuracy"]))
def test_differences_are_antisymmetric_and_bounded(rows, metric):
    truth, first, second = (np.array(column) for column in zip(*rows, strict=True))
    forward = bootstrap_difference(truth, first, second, metric, n_resamples=50)
    backward = bootstrap_difference(truth, second, first, metric, n_resamples=50)
    assert forward.value == pytest.approx(-backward.value)
    assert -1 <= forward.low <= forward.high <= 1


def test_a_wider_confidence_gives_a_wider_interval():
    narrow, wide = (bootstrap_difference(*two_runs(), confidence=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_runs_of_different_length_cannot_be_paired():
    with pytest.raises(ProbeError, match="3, 3 and 2 rows cannot be paired"):
        bootstrap_difference(np.zeros(3, int), np.zeros(3, int), np.zeros(2, int))


def test_an_unknown_metric_is_refused():
    with pytest.raises(ProbeError, match="no paired interval for 'kappa'"):
        bootstrap_difference(*two_runs(), metric="kappa")
