"""Power laws through scores, and the labels that a score needs."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit, lsq_linear

from featurestore.errors import ProbeError
from probes.statistics.configurations import gather_configurations
from probes.statistics.learning_curve import (
    EXPONENTS,
    LearningCurve,
    curve_frame,
    curve_table,
    fit_curve,
    fit_curves,
    fit_power_law,
    gather_curves,
    tell_needs,
)

LABELS = np.array([80.0, 240.0, 400.0, 800.0])


def law(labels, a, b, c):
    return a - b * labels**-c


def make_curve(steps, parameters):
    rows = np.tile(np.asarray(parameters, dtype=np.float64), (21, 1)) if np.ndim(parameters) == 1 else parameters
    return LearningCurve(tuple(steps), "f1", LABELS, law(LABELS, *rows[0]), np.asarray(rows), 0.95)


@pytest.fixture
def rising(make_runs):
    """One head at four label fractions, which errs less and less."""
    wrong = {10: 150, 30: 105, 50: 90, 100: 80}
    return gather_configurations(
        [run for fraction, n in wrong.items() for run in make_runs(wrong=n, fraction=fraction)]
    )[0]


@settings(max_examples=40)
@given(a=st.floats(0.5, 0.99), drop=st.floats(0.05, 0.4), c=st.floats(0.3, 2))
def test_the_law_is_found_again(a, drop, c):
    b = drop * LABELS[0] ** c
    scores = law(LABELS, a, b, c)
    ((fitted_a, fitted_b, fitted_c),) = fit_power_law(LABELS, scores[None])
    assert law(LABELS, fitted_a, fitted_b, fitted_c) == pytest.approx(scores, abs=2e-3)
    assert fitted_a == pytest.approx(a, abs=0.02)


def test_no_fit_by_descent_is_better():
    rng = np.random.default_rng(2)
    scores = law(LABELS, 0.9, 3.0, 0.5) + rng.normal(0, 0.01, (20, 4))
    for row, fitted in zip(scores, fit_power_law(LABELS, scores), strict=True):
        found, _ = curve_fit(law, LABELS, row, p0=fitted, bounds=([0, 0, EXPONENTS[0]], [1, np.inf, EXPONENTS[-1]]),
                             max_nfev=5000)  # fmt: skip
        assert ((law(LABELS, *fitted) - row) ** 2).sum() <= ((law(LABELS, *found) - row) ** 2).sum() + 1e-6


def test_bounds_hold():
    rising_fast, falling, flat = [0.2, 0.5, 0.7, 0.99], [0.8, 0.7, 0.6, 0.5], [0.6] * 4
    fitted = fit_power_law(LABELS, np.array([rising_fast, falling, flat]))
    assert (fitted[:, 0] <= 1).all()
    assert (fitted[:, 1] >= 0).all()
    assert fitted[1:, :2] == pytest.approx(np.array([[0.65, 0], [0.6, 0]]))


def test_labels_for_a_score_invert_the_law(rising):
    curve = make_curve(rising, [0.9, 3.0, 0.5])
    need = curve.labels_for(0.8)
    assert law(need.value, 0.9, 3.0, 0.5) == pytest.approx(0.8)
    assert need.low == need.high == pytest.approx(need.value)
    assert curve.labels_for(0.95).value == np.inf
    assert curve.predict(np.array([100.0, 900.0]))[0] == pytest.approx(law(np.array([100.0, 900.0]), 0.9, 3.0, 0.5))


def test_some_resamples_that_never_reach_it_leave_the_interval_open(rising):
    rows = [[0.9, 3.0, 0.5]] * 91 + [[0.79, 2.0, 0.5]] * 10
    need = make_curve(rising, rows).labels_for(0.8)
    assert np.isfinite([need.value, need.low]).all()
    assert need.high == np.inf


NAME = "dinov2-s, full-224, cls, dinov2-s/full-224, linear, cv"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (0.75, f"{NAME}: macro-F1 0.75 needs about 400 labels (at least 400, at most 400); 800 were measured."),
        (
            0.85,
            f"{NAME}: macro-F1 0.85 needs about 3,600 labels (at least 3,600, at most 3,600), 2,800 more than the 800 measured: extrapolated.",  # noqa: E501
        ),
        (
            0.95,
            f"macro-F1 0.95 is not reached with up to 1,000 times the labels measured by {NAME} (asymptote 0.900 [0.900, 0.900]).",  # noqa: E501
        ),
    ],
)
def test_the_need_is_told(rising, target, told):
    assert tell_needs([make_curve(rising, [0.9, 3.0, 0.5])], target) == [told]


def test_open_intervals_are_told_once_for_all_curves(rising):
    often = [[0.9, 3.0, 0.5]] * 61 + [[0.79, 2.0, 0.5]] * 40
    rarely = [[0.79, 2.0, 0.5]] * 91 + [[0.9, 3.0, 0.5]] * 10
    curves = [make_curve(rising, rows) for rows in (often, rarely, often)]
    need, same, beyond, open_ended = tell_needs(curves, 0.8)
    assert need == same
    assert need.startswith(
        f"{NAME}: macro-F1 0.8 needs about 900 labels (at least 900), 100 more than the 800 measured"
    )
    assert beyond.startswith("macro-F1 0.8 is not reached with up to 1,000 times the labels measured by dinov2-s")
    assert beyond.count("asymptote") == 1
    assert open_ended.startswith(
        "Open intervals of the labels needed: in 40% to 90% of the resamples the curve never reaches 0.8: dinov2-s"
    )
    table = curve_table(curves, 0.8)
    assert table.frame["labels for 0.8"].tolist() == ["900 [900, open]", "not reached [900, open]", "900 [900, open]"]
    assert table.caption.endswith(" in 40% to 90% of the resamples the curve never reaches 0.8.")
    assert "more than" not in table.frame.to_string()


def test_a_number_that_is_too_far_away_is_not_told(rising):
    curve = make_curve(rising, [0.9, 3.0, 0.2])
    assert curve.labels_for(0.899).value > 1e6
    assert curve_table([curve], 0.899).frame["labels for 0.899"].tolist() == ["not reached"]
    assert curve.share_never(0.899) == 1
    assert curve.share_never(0.5) == 0


@pytest.mark.parametrize(
    ("parameters", "identified"),
    [
        ([0.9, 3.0, 0.5], True),
        ([1.0, 3.0, 0.2], False),
        ([0.6, 0.0, 0.5], False),
        ([0.9, 3.0, EXPONENTS[0]], False),
        ([0.9, 3.0, EXPONENTS[1]], True),
        ([0.9, 3.0, EXPONENTS[-2]], True),
        ([0.9, 3.0, EXPONENTS[-1]], False),
    ],
)
def test_limits_that_decide_are_told(rising, parameters, identified):
    curve = make_curve(rising, parameters)
    assert curve.identified is identified
    assert ("do not fix" in " ".join(tell_needs([curve], 0.95))) is not identified


def test_a_measured_curve(rising):
    curve = fit_curve(rising)
    assert curve.labels.tolist() == LABELS.tolist()
    assert curve.scores == pytest.approx([line.mean for line in rising])
    assert law(LABELS, *curve.parameters[0]) == pytest.approx(curve.scores, abs=0.01)
    value, low, high = curve.predict(LABELS)
    assert (low < value).all()
    assert (value < high).all()
    assert np.array_equal(fit_curve(rising).parameters, curve.parameters)


def test_curves_are_gathered_from_lines_that_differ_in_the_fraction_alone(make_runs, rising):
    few = gather_configurations([*make_runs(head="mlp"), *make_runs(head="mlp", fraction=10)])[0]
    (curve,) = gather_curves([*few, *rising[::-1]])
    assert [line.first.fraction for line in curve] == [10, 30, 50, 100]
    tiny = gather_configurations([run for fraction in (1, 2, 3, 4) for run in make_runs(fraction=fraction, n_train=3)])[
        0
    ]
    assert gather_curves(tiny) == []


def test_too_few_fractions_are_refused(rising):
    with pytest.raises(ProbeError, match=r"4 different numbers of labels, not \[80.0, 240.0, 400.0\].*--fractions"):
        fit_curve(rising[:3])


def test_curves_as_tables(rising):
    curve = fit_curve(rising)
    frame, table = curve_frame([curve], 0.99), curve_table([curve], 0.99)
    row = frame.iloc[0]
    assert (row["labels"], row["fractions"], row["head"]) == (800, 4, "linear")
    assert row["asymptote_low"] <= row["asymptote"] <= row["asymptote_high"]
    assert row["score"] < row["doubled"] <= row["asymptote"]
    assert table.frame.columns[-1] == "labels for 0.99"
    assert "needed" not in curve_frame([curve])
    assert "extrapolated" in table.caption


def test_where_the_asymptote_is_at_its_bound_the_slope_is_still_least_squares():
    scores = np.array([0.2, 0.5, 0.7, 0.99])
    ((a, b, c),) = fit_power_law(LABELS, scores[None])
    assert a == 1
    loss = ((law(LABELS, a, b, c) - scores) ** 2).sum()
    for power in EXPONENTS:
        x = LABELS**-power
        best = lsq_linear(np.column_stack([np.ones(4), -x / x[0]]), scores, bounds=([0, 0], [1, np.inf]))
        assert loss <= 2 * best.cost + 1e-9


def test_ends_of_the_interval_are_quantiles_of_the_labels(rising):
    targets = np.linspace(0.8, 0.9, 199)  # asymptotes: the higher, the fewer labels
    curve = make_curve(rising, [[0.85, 3.0, 0.5], *([a, 3.0, 0.5] for a in targets)])
    needed = (3.0 / (targets - 0.7)) ** 2
    need = curve.labels_for(0.7)
    assert need.value == pytest.approx((3.0 / 0.15) ** 2)
    assert [need.low, need.high] == pytest.approx(np.quantile(needed, [0.025, 0.975], method="inverted_cdf").tolist())


def test_the_horizon_is_a_multiple_of_the_most_labels(rising):
    """A curve that needs 400,000 labels is within a thousand times 800, not within a thousand times 240."""
    curve = make_curve(rising, [0.9, (0.9 - 0.8) * 400_000**0.5, 0.5])
    assert curve.labels_for(0.8).value == pytest.approx(400_000)
    assert curve.share_never(0.8) == 0
    assert "about 400,000 labels" in tell_needs([curve], 0.8)[0]


def test_the_interval_of_a_prediction_is_of_its_draws(rising):
    asymptotes = np.linspace(0.8, 0.9, 199)
    curve = make_curve(rising, [[0.85, 3.0, 0.5], *([a, 3.0, 0.5] for a in asymptotes)])
    value, low, high = curve.predict(np.array([900.0]))
    ends = np.quantile(asymptotes, [0.025, 0.975]) - 0.1
    assert [*value, *low, *high] == pytest.approx([0.75, *ends])
    assert curve.asymptote == pytest.approx((0.85, *(ends + 0.1)))
    with pytest.raises(FrozenInstanceError):
        curve.confidence = 0.5


def test_defaults_are_those_that_the_pages_state(rising):
    assert (EXPONENTS[0], EXPONENTS[-1], len(EXPONENTS)) == (pytest.approx(0.02), pytest.approx(4), 150)
    curve = fit_curve(rising)
    assert curve.parameters.shape == (2_000, 3)
    assert curve.confidence == 0.95
    assert fit_curve(rising, "accuracy", n_resamples=9).scores == pytest.approx(
        [1 - w / 240 for w in (150, 105, 90, 80)]
    )
    assert fit_curves([]) == []


def test_a_frame_tells_the_fit(rising):
    curve = make_curve(rising, [0.9, 3.0, 0.5])
    row = curve_frame([curve], 0.8).iloc[0]
    told = {
        "exponent": 0.5,
        "asymptote": 0.9,
        "doubled": 0.9 - 3.0 * 1600**-0.5,
        "needed": 900,
        "score": 0.9 - 3 / 800**0.5,
    }
    assert row[list(told)].to_dict() == pytest.approx(told)
    assert (row["identified"], row["metric"], row["seeds"]) == (True, "macro-F1", 3)
    assert "interval" not in curve_table([curve], 0.8).caption.split("tell it.")[1]
