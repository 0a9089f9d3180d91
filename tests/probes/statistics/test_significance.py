"""Holm's correction, and paired differences over rows and seeds."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import accuracy_score, f1_score

from featurestore.errors import ProbeError
from probes.statistics.bootstrap import bootstrap_difference
from probes.statistics.configurations import gather_configurations
from probes.statistics.significance import Resamples, adjust_holm, compare, compare_configurations, describe_intervals

P_VALUES = arrays.arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1, allow_subnormal=False))


def one(runs):
    (found,), _ = gather_configurations(runs)
    return found


def f1(run):
    return f1_score(run.truth, run.predicted, average="macro")


def test_holm_by_hand():
    # 4 * 0.01; 3 * 0.02, 2 * 0.03 and 1 * 0.04, of which none may fall below the one before it
    assert adjust_holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    # 3 * 0.001, 2 * 0.01 and 1 * 0.5
    assert adjust_holm([0.5, 0.001, 0.01]) == pytest.approx([0.5, 0.003, 0.02])
    assert adjust_holm([0.7, 0.8]) == pytest.approx([1.0, 1.0])
    assert adjust_holm([]).shape == (0,)


@given(P_VALUES)
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = adjust_holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(1, len(p_values) * p_values) + 1e-15).all()
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@given(P_VALUES, st.floats(0.001, 0.5), st.randoms())
def test_holm_rejects_what_the_sequential_procedure_rejects(p_values, level, random):
    shuffled = list(range(len(p_values)))
    random.shuffle(shuffled)
    rejected = set()
    for step, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] * (len(p_values) - step) > level:
            break
        rejected.add(int(index))
    assert set(np.flatnonzero(adjust_holm(p_values) <= level)) == rejected
    assert adjust_holm(p_values[shuffled]) == pytest.approx(adjust_holm(p_values)[shuffled])


def test_a_difference_is_the_mean_over_the_common_seeds(make_runs):
    first, second = one(make_runs(wrong=70)), one(make_runs(wrong=40, head="mlp", seeds=2))
    found = compare_configurations(first, second)
    expected = [f1(second.runs[seed]) - f1(first.runs[seed]) for seed in (0, 1)]
    assert found.difference.value == pytest.approx(np.mean(expected))
    assert found.seeds == (0, 1)
    assert found.base == pytest.approx(np.mean([f1(run) for run in first.runs[:2]]))
    assert found.relative.value == pytest.approx(found.difference.value / found.base)
    assert found.difference.low < found.difference.value < found.difference.high
    assert (
        found.verdict,
        compare_configurations(second, first).verdict,
        compare_configurations(first, first).verdict,
    ) == (1, -1, 0)
    assert str(found).startswith("+0.12")
    assert "%" in str(found)


def test_with_one_seed_only_rows_are_resampled(make_runs):
    first, second = make_runs(wrong=70, seeds=1), make_runs(wrong=40, head="mlp", seeds=1)
    found = compare(first, second, n_resamples=300).difference
    assert found == bootstrap_difference(first[0].truth, first[0].predicted, second[0].predicted, n_resamples=300)


def test_seeds_that_disagree_widen_the_interval(make_runs):
    first = make_runs(wrong=60)
    even = [replace(run, head="mlp") for run in make_runs(wrong=50)]
    spread = [replace(make_runs(wrong=wrong)[seed], head="mlp") for seed, wrong in enumerate((20, 50, 80))]
    widths = [(found.high - found.low) for found in (compare(first, other).difference for other in (even, spread))]
    assert widths[1] > 1.5 * widths[0]


def test_the_interval_is_that_of_drawing_rows_and_seeds_one_by_one(make_runs):
    first, second = make_runs(wrong=60), make_runs(wrong=45)
    rng, differences = np.random.default_rng(5), []
    for _ in range(250):
        rows, seeds = rng.integers(0, 240, 240), rng.integers(0, 3, 3)
        scores = [
            np.mean([f1_score(runs[s].truth[rows], runs[s].predicted[rows], average="macro") for s in seeds])
            for runs in (first, second)
        ]
        differences.append(scores[1] - scores[0])
    found = compare(first, second).difference
    assert [found.low, found.high] == pytest.approx(np.quantile(differences, [0.025, 0.975]).tolist(), abs=0.012)


def test_whole_groups_are_resampled(make_runs, make_table):
    runs = [*make_runs(wrong=60), *make_runs(wrong=30, head="mlp")]
    truth = runs[0].truth
    table = make_table(truth.tolist(), groups=[f"g{row // 12}" for row in range(240)], classes=("a", "b", "c"))
    table = replace(table, sample_ids=runs[0].sample_ids)
    alone, grouped = ([*gather_configurations(runs, known)[0]] for known in (None, table))
    assert alone[0].groups is None
    assert grouped[0].groups == tuple(f"g{row // 12}" for row in range(240))
    one, other = (compare_configurations(*lines).difference for lines in (alone, grouped))
    assert one.value == other.value
    assert (one.low, one.high) != (other.low, other.high)
    assert compare(runs[:3], runs[3:], groups=grouped[0].groups).difference == other


def test_accuracy_on_request(make_runs):
    first, second = make_runs(wrong=60, seeds=1), make_runs(wrong=30, head="mlp", seeds=1)
    found = compare(first, second, "accuracy").difference
    expected = [accuracy_score(runs[0].truth, runs[0].predicted) for runs in (first, second)]
    assert (found.metric, found.value) == ("accuracy", pytest.approx(expected[1] - expected[0]))


def test_lines_without_a_common_seed_are_not_compared(make_runs):
    others = [replace(run, seed=run.seed + 5) for run in make_runs()]
    assert compare_configurations(one(make_runs()), one(others)) is None
    with pytest.raises(ProbeError, match=r"the runs have no seed in common \[\[0, 1, 2\] and \[5, 6, 7\]\]"):
        compare(make_runs(), others)


@pytest.mark.parametrize(
    "change",
    [
        {"sample_ids": tuple(f"t{row}" for row in range(240))},
        {"truth": np.zeros(240, dtype=np.int64)},
        {"classes": ("round", "double", "bent")},
    ],
)
def test_runs_on_different_rows_are_not_compared(make_runs, change):
    with pytest.raises(ProbeError, match="the runs were tested on different rows"):
        compare(make_runs(), make_runs(**change))


def test_a_score_of_zero_has_no_relative_change(make_runs):
    found = compare(make_runs(wrong=240, seeds=1), make_runs(wrong=30, seeds=1))
    assert np.isnan(found.relative.value)
    assert "%" not in str(found)


def test_all_lines_are_read_off_the_same_resamples(make_runs):
    lines = [one(make_runs(wrong=wrong, head=f"h{wrong}")) for wrong in (20, 50, 90)]
    sampled = Resamples(lines, n_resamples=200)
    steps = [sampled.compare(*pair).difference.value for pair in ((0, 1), (1, 2), (0, 2))]
    assert steps[0] + steps[1] == pytest.approx(steps[2])
    twin = Resamples([*lines, lines[0]], n_resamples=200)
    assert np.array_equal(twin.draw(0), twin.draw(3))


def test_intervals_say_what_they_are_over(make_runs):
    assert describe_intervals(0.95, 1240, [True, True]) == (
        "95% intervals of a paired bootstrap over 1,240 test rows and over seeds."
    )
    assert "over 240 test rows alone: one seed, or seeds" in describe_intervals(0.95, 240, [False])
    assert "and over seeds; those over rows alone have one seed" in describe_intervals(0.95, 240, [True, False])
    same = [replace(run, probabilities=make_runs()[0].probabilities) for run in make_runs()]
    other = [replace(run, head="mlp") for run in make_runs(wrong=30)]
    assert not compare_configurations(one(same), one(same)).seeds_vary
    assert str(compare_configurations(one(same), one(same))).endswith(", over test rows only")
    assert compare_configurations(one(same), one(other)).seeds_vary
    assert not compare_configurations(one(same[:1]), one(other[:1])).seeds_vary


def test_intervals_widen_with_the_confidence_and_seeds_repeat(make_runs):
    first, second = make_runs(wrong=70), make_runs(wrong=40, head="mlp")
    narrow, wide, usual = (compare(first, second, **level).difference
                           for level in ({"confidence": 0.5}, {"confidence": 0.99}, {}))  # fmt: skip
    assert wide.low < usual.low < narrow.low < narrow.high < usual.high < wide.high
    assert (usual.confidence, usual.n_resamples) == (0.95, 9_999)
    assert compare(first, second, seed=0) == replace(compare(first, second), first=one(first), second=one(second))
    assert compare(first, second, seed=1).difference != usual


def test_a_comparison_cannot_be_changed(make_runs):
    found = compare(make_runs(), make_runs(wrong=40, head="mlp"))
    assert found.rows == (str(found.first), str(found.second))
    with pytest.raises(FrozenInstanceError):
        found.p_adjusted = 0.0


def test_scores_stay_within_their_range(make_runs):
    runs = [replace(make_runs(wrong=wrong)[seed], seed=seed) for seed, wrong in enumerate((0, 60, 0))]
    drawn = Resamples([one(runs)]).draw(0)
    assert drawn.max() == 1.0
    assert drawn.min() >= 0.0
