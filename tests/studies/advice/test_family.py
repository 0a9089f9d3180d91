"""One family holds every pair that ranking, ablations and advice show."""

import pytest

from featurestore.errors import UsageError
from probes.statistics.configurations import gather_configurations
from studies.advice.evidence import Evidence
from studies.advice.family import at_fraction, find_base, judge_together


@pytest.fixture
def configurations(make_runs):
    runs = [
        run
        for wrong, fields in (
            (60, {}),
            (90, {"fraction": 50}),
            (70, {"head": "mlp"}),
            (80, {"backbone": "resnet-50"}),
            (50, {"backbone": "dinov2-s+resnet-50"}),
        )
        for run in make_runs(wrong, **fields)
    ]
    return gather_configurations(runs)[0]


def test_a_fraction_that_was_not_measured_is_refused(configurations):
    assert {one.first.fraction for one in at_fraction(configurations)} == {100}
    assert {one.first.fraction for one in at_fraction(configurations, 50)} == {50}
    with pytest.raises(UsageError, match=r"no run has 30 % of the labels \[fraction\]. Measured: 50, 100."):
        at_fraction(configurations, 30)


def test_advice_begins_at_the_best_single_backbone(configurations):
    base = find_base(Evidence("toy", "kind", tuple(configurations), ()))
    assert (base.first.backbone, base.first.head, base.first.fraction) == ("dinov2-s", "linear", 100)
    assert find_base(Evidence("toy", "kind", (), ())) is None


def test_the_family_holds_ranking_and_advice(configurations):
    evidence = Evidence("toy", "kind", tuple(configurations), ())
    family, base = judge_together(evidence), find_base(evidence)
    below = next(one for one in configurations if one.first.fraction == 50)
    mlp = next(one for one in configurations if one.first.head == "mlp")
    assert family.compare(below, base).verdict > 0
    assert family.compare(base, mlp) is not None
