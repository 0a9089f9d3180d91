"""The bootstrap against scikit-learn, and against resampling row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from featurestore.errors import ProbeError
from probes.bootstrap import bootstrap_difference


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
