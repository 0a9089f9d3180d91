"""One correction for a family, whatever table asks, and whichever of a pair is judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from probes.statistics.configurations import gather_configurations
from probes.statistics.family import Family
from probes.statistics.significance import Resamples, adjust_holm


@pytest.fixture
def configurations(make_runs):
    runs = [run for head, wrong in (("a", 40), ("b", 42), ("c", 60)) for run in make_runs(wrong=wrong, head=head)]
    other = [replace(run, seed=run.seed + 9) for run in make_runs(wrong=50, head="d")]
    return gather_configurations([*runs, *other])[0]


def test_pairs_are_corrected_together_once_each(configurations):
    a, b, c, d = configurations
    family = Family(configurations, [(a, b), (b, a), (a, c), (a, b), (a, a), (a, d)])
    assert len(family) == 2
    raw = [family.compare(a, other).difference.p_value for other in (b, c)]
    assert [family.compare(a, other).p_adjusted for other in (b, c)] == pytest.approx(adjust_holm(raw).tolist())
    assert family.compare(b, a).p_adjusted == family.compare(a, b).p_adjusted
    assert family.compare(b, a).verdict == -family.compare(a, b).verdict
    assert family.compare(a, d) is None, "they have no seed in common"


def test_a_verdict_is_of_the_adjusted_p_value(configurations):
    a, b, c, _ = configurations
    found = Family([], [(a, b), (a, c)]).compare(a, c)
    assert found.verdict == -1
    assert replace(found, p_adjusted=0.051).verdict == 0
    assert replace(found, p_adjusted=0.049).verdict == -1


def test_a_pair_that_was_not_declared_is_refused(configurations):
    a, b, c, _ = configurations
    with pytest.raises(KeyError):
        Family(configurations, [(a, b)]).compare(b, c)


def test_numbers_are_those_of_the_resamples(configurations):
    a, b, *_ = configurations
    family, alone = Family(configurations, [(a, b)], "accuracy"), Resamples(configurations, "accuracy")
    assert family.measure(b) == alone.measure(1)
    assert family.compare(a, b) == alone.compare(0, 1)
    assert (family.metric, family.confidence) == ("accuracy", 0.95)
