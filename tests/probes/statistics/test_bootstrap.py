"""The bootstrap against scikit-learn, and against resampling row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from featurestore.errors import ProbeError
from probes.statistics.bootstrap import average_seeds, bootstrap_difference, find_interval, p_value, resample_scores


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


def test_whole_groups_are_drawn():
    """Every row three times, as a group: the scores are those of resampling the rows once."""
    truth, first, second = two_runs()
    thrice = [np.repeat(column, 3) for column in (truth, first, second)]
    groups = [f"source {row // 3}" for row in range(3 * len(truth))]
    once = resample_scores(truth, np.stack([first, second]), n_resamples=50)
    grouped = resample_scores(thrice[0], np.stack(thrice[1:]), groups=groups, n_resamples=50)
    assert np.array_equal(once, grouped)
    alone = resample_scores(thrice[0], np.stack(thrice[1:]), n_resamples=50)
    assert (alone[1:].std(axis=0) < 0.75 * grouped[1:].std(axis=0)).all()


def test_an_empty_group_is_none():
    truth, first, second = two_runs()
    runs = np.stack([first, second])
    ungrouped = resample_scores(truth, runs, groups=[""] * len(truth), n_resamples=20)
    assert np.array_equal(ungrouped, resample_scores(truth, runs, n_resamples=20))


def test_blocks_of_resamples_do_not_change_them(monkeypatch):
    truth, first, second = two_runs()
    whole = resample_scores(truth, np.stack([first, second]), n_resamples=40)
    monkeypatch.setattr("probes.statistics.bootstrap._BLOCK", 100)
    assert np.array_equal(whole, resample_scores(truth, np.stack([first, second]), n_resamples=40))


def test_means_over_seeds_vary_as_the_bootstrap_of_the_mean_does():
    scores = np.tile([0.1, 0.5, 0.9], (20_001, 1))
    draws = average_seeds(scores)
    assert draws[0] == pytest.approx(0.5)
    assert draws[1:].mean() == pytest.approx(0.5, abs=0.005)
    assert draws[1:].var() == pytest.approx(scores[0].var() / 3, rel=0.05)
    assert np.array_equal(average_seeds(scores[:, :1]), scores[:, 0])


def test_p_values_by_hand():
    draws = np.array([0.3, *[0.1] * 96, *[-0.1] * 3])
    assert p_value(draws) == pytest.approx(2 * (1 + 3) / 100)
    assert p_value(-draws) == p_value(draws)
    assert p_value(np.zeros(100)) == 1.0
    assert p_value(np.full(100, 0.2)) == pytest.approx(0.02)
    assert p_value(np.array([0.3, np.nan, 0.1, 0.1, 0.1])) == pytest.approx(0.5)


@given(st.lists(st.floats(-1, 1), min_size=40, max_size=200))
def test_a_small_p_value_is_an_interval_without_zero(drawn):
    draws = np.array([0.0, *drawn])
    interval = find_interval(draws)
    if p_value(draws) < 0.05 - 2 / len(drawn):
        assert interval.low > 0 or interval.high < 0
    if p_value(draws) > 0.05 + 4 / len(drawn):
        assert interval.low <= 0 <= interval.high


def test_p_values_of_no_difference_are_spread_evenly():
    rng, n_small = np.random.default_rng(0), 0
    for trial in range(120):
        truth = rng.integers(0, 2, 200)
        runs = np.where(rng.random((2, 200)) < 0.7, truth, 1 - truth)
        scores = resample_scores(truth, runs, "accuracy", n_resamples=300, seed=trial)
        n_small += p_value(scores[:, 1] - scores[:, 0]) < 0.2
    assert 12 <= n_small <= 38  # of 120 a fifth is expected, and four standard deviations are 18
