"""Names of earlier versions: understood from users with a notice, and read from stores without one."""

import pytest

from featurestore.errors import FormerNameWarning
from probes.results.former_names import present_parameters, present_protocol, read_arrays, read_params


def test_a_former_protocol_is_understood_with_a_notice():
    with pytest.warns(FormerNameWarning, match="the protocol 'convex' is called 'cv' now"):
        assert present_protocol("convex") == "cv"
    assert present_protocol("paper") == "paper"


def test_former_parameters_are_understood_with_a_notice_each():
    with pytest.warns(FormerNameWarning) as told:
        found = present_parameters({"strengths": [0.1], "default_strength": 1.0, "kind": "zca", "rank": 3})
    assert found == {"Cs": [0.1], "default_C": 1.0, "whitening": "zca", "rank": 3}
    assert [str(one.message).split("'")[1] for one in told] == ["strengths", "default_strength", "kind"]


def test_what_a_store_says_is_read_by_present_names():
    stored = {"strength": 0.1, "folds": 3, "kind": "pca", "options": {"strengths": [1]}, "validation": "rest"}
    assert read_params(stored) == {
        "C": 0.1, "folds": 3, "whitening": "pca", "options": {"Cs": [1]}, "validation": "rest"
    }  # fmt: skip
    assert read_arrays({"columns_": 1, "coef_": 2}) == {"targets_": 1, "coef_": 2}
