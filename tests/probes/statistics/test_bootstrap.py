"""The bootstrap against scikit-learn, and against resampling row by row."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
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


def test_without_rows_the_mean_over_seeds_is_student_s():
    scores = np.tile([0.1, 0.5, 0.9], (40_001, 1))
    draws = average_seeds(scores)
    assert draws[0] == pytest.approx(0.5)
    expected = stats.ttest_1samp(scores[0], 0).confidence_interval(0.95)
    assert find_interval(draws)[1:] == pytest.approx(tuple(expected), rel=0.05)


def test_one_seed_and_equal_seeds_say_nothing_of_training():
    rng = np.random.default_rng(0)
    one = rng.normal(0.5, 0.1, (100, 1))
    assert np.array_equal(average_seeds(one), one[:, 0])
    assert average_seeds(np.repeat(one, 3, axis=1)) == pytest.approx(one[:, 0])


def test_what_seeds_owe_to_the_rows_counts_once():
    """Seeds that differ by their test rows alone: the variance of the mean is that of the rows."""
    rng = np.random.default_rng(1)
    measured = rng.normal(0, 0.1, 400)
    scores = np.concatenate([measured[None], measured + rng.normal(0, 0.1, (4000, 400))])
    assert average_seeds(scores)[1:].std() == pytest.approx(0.1 / 20, rel=0.15)


def test_equal_numbers_of_seeds_are_drawn_alike():
    rng = np.random.default_rng(2)
    scores = np.tile(rng.normal(size=3), (50, 1))
    assert average_seeds(2 * scores + 1) == pytest.approx(2 * average_seeds(scores) + 1)
    assert not np.array_equal(average_seeds(scores), average_seeds(scores, seed=1))


def simulate(rng, n_seeds, training, rows=1.0, errors=0.5, n_resamples=299):
    """Scores of a true mean of 0 with their resamples: noise of test rows, of training, and of both together."""
    common, own = rng.normal(0, rows, n_resamples + 1), rng.normal(0, errors, (n_resamples + 1, n_seeds))
    measured = common[0] + rng.normal(0, training, n_seeds) + own[0]
    return np.concatenate([measured[None], measured + common[1:, None] + own[1:]])


@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize(("training", "most"), [(0.5, 0.985), (1.0, 0.98), (1.65, 0.97), (2.1, 0.97)])
def test_intervals_reach_their_coverage(n_seeds, training, most):
    """Noise of training from half that of the rows, where few seeds err on the safe side, to twice."""
    rng, n_trials, covered, rejected = np.random.default_rng(3), 1500, 0, 0
    for trial in range(n_trials):
        draws = average_seeds(simulate(rng, n_seeds, training), seed=trial)
        low, high = find_interval(draws)[1:]
        covered += low <= 0 <= high
        rejected += p_value(draws) < 0.05
    assert 0.93 <= covered / n_trials <= most
    assert rejected / n_trials <= 0.06


def draw_predictions(rng, n_seeds, n=400):
    """Whether runs of two equally good configurations are right, bool (2, n_seeds, n), and their true accuracy."""
    hard, shared = rng.normal(size=n), rng.normal(size=n_seeds)
    training = 0.16 * (shared + rng.normal(size=(2, n_seeds))) / np.sqrt(2)
    right = 1 + hard + training[..., None] + rng.normal(0, 0.3, (2, n_seeds, n)) > 0
    return right, stats.norm.cdf(1 / np.sqrt(1 + 0.16**2 + 0.3**2))


@pytest.mark.parametrize("n_seeds", [3, 5])
def test_intervals_of_predictions_reach_their_coverage(n_seeds):
    rng, n_trials, covered, rejected = np.random.default_rng(4), 400, np.zeros(2), 0
    for trial in range(n_trials):
        right, accuracy = draw_predictions(rng, n_seeds)
        runs = right.reshape(2 * n_seeds, -1).astype(np.int64)
        scores = resample_scores(np.ones(400, np.int64), runs, "accuracy", n_resamples=299, seed=trial)
        gain = average_seeds(scores[:, n_seeds:] - scores[:, :n_seeds], trial)
        intervals = find_interval(average_seeds(scores[:, :n_seeds], trial)), find_interval(gain)
        covered += [one.low <= true <= one.high for one, true in zip(intervals, (accuracy, 0), strict=True)]
        rejected += p_value(gain) < 0.05
    assert (covered / n_trials >= 0.93).all()
    assert (covered / n_trials <= 0.98).all()
    assert rejected / n_trials <= 0.06


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


def test_defaults_are_those_that_captions_state():
    truth, first, second = two_runs()
    runs = np.stack([first, second])
    scores = resample_scores(truth, runs)
    assert scores.shape == (10_000, 2)
    assert np.array_equal(scores, resample_scores(truth, runs, n_resamples=9_999, seed=0))
    assert np.array_equal(average_seeds(scores), average_seeds(scores, seed=0))
    found = bootstrap_difference(truth, first, second)
    assert (found.confidence, found.n_resamples) == (0.95, 9_999)
    assert [found.low, found.high] == np.quantile(scores[1:, 1] - scores[1:, 0], [0.025, 0.975]).tolist()


def test_a_difference_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        bootstrap_difference(*two_runs(), n_resamples=9).value = 1.0


def test_an_interval_leaves_out_what_is_no_draw():
    draws = np.array([0.5, *np.linspace(0, 1, 101), np.nan])
    assert find_interval(draws, 0.8) == pytest.approx((0.5, 0.1, 0.9))


def test_a_class_that_a_resample_misses_is_in_no_mean():
    """Two rows of two classes, one predicted wrong: a resample holds both, or one of them twice."""
    scores = resample_scores(np.array([0, 1]), np.array([[0, 0]]), "recall", n_resamples=200)
    assert scores[0, 0] == 0.5
    assert set(scores[1:, 0]) == {0.0, 0.5, 1.0}


def test_no_rows_are_refused():
    with pytest.raises(ProbeError, match="0, 0 and 0 rows cannot be paired"):
        bootstrap_difference(*[np.zeros(0, int)] * 3)
