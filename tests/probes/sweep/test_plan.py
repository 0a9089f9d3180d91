"""What a sweep plans under names of earlier versions; rows and parameters are tested with the sweep."""

import pytest

from featurestore.errors import FormerNameWarning, ProbeError
from probes.sweep.plan import plan


def test_former_names_plan_what_present_ones_do(toy_features):
    with pytest.warns(FormerNameWarning):
        (former,) = plan(toy_features, ["linear"], protocol="convex", fractions=[50], seeds=1,
                         options={"linear": {"strengths": (0.1,)}})  # fmt: skip
    (present,) = plan(toy_features, ["linear"], fractions=[50], seeds=1, options={"linear": {"Cs": (0.1,)}})
    assert former.protocol == present.protocol == "cv"
    assert former.params == present.params
    assert former.notes == present.notes == {"options": {"Cs": (0.1,)}}


def test_whitening_of_features_that_stay_in_the_store_is_refused(toy_features, monkeypatch):
    monkeypatch.setattr(type(toy_features), "block_rows", 8)
    with pytest.raises(ProbeError, match="the head 'linear' needs all"):
        plan(toy_features, ["linear"], options={"linear": {"whitening": "pca"}})


def test_what_is_named_twice_is_fitted_once(toy_features):
    tasks = plan(toy_features, ["linear", "knn", "linear"], fractions=[100, 50, 100], seeds=[1, 1])
    assert [(task.head, task.fraction, task.seed) for task in tasks] == [
        ("linear", 100, 1), ("linear", 50, 1), ("knn", 100, 1), ("knn", 50, 1),
    ]  # fmt: skip
