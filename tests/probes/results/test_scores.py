import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as oracle

from probes.results.scores import expected_calibration_error, score


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
