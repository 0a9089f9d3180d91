"""Studies check what they are given."""

from __future__ import annotations

import pytest

from featurestore.errors import UsageError
from featurestore.extraction.requests import ExtractionOptions
from studies.study_file.spec import ProbeOptions, Study, make_study


def test_a_command_line_makes_a_study():
    study = make_study(
        "first", ("resnet-18",), ("full-224",), "random:0", "fp32", heads="linear, knn", fractions="10, 100", seeds=2
    )
    assert study.probe == ProbeOptions(("linear", "knn"), fractions=(10, 100), seeds=2)
    assert study.extract == ExtractionOptions(weights="random:0", precision="fp32")
    assert (study.datasets, study.title) == (("first",), "first")
    assert make_study("first", ("resnet-18",), ("full-224",)).probe == ProbeOptions()


@pytest.mark.parametrize("fractions", ["ten", "10,", "-5", "0.5", ""])
def test_fractions_that_are_no_whole_percents_are_refused(fractions):
    with pytest.raises(UsageError, match="not a list of whole percents"):
        make_study("first", ("resnet-18",), ("full-224",), fractions=fractions)


def test_validation_rows_and_options_that_cannot_be_are_refused_at_once():
    with pytest.raises(UsageError, match="validation should be 'split', 'rest' or 'none'"):
        ProbeOptions(validation="tests")
    with pytest.raises(UsageError, match="options for heads that are not named: knn"):
        ProbeOptions(options={"knn": {"metric": "cosine"}})


def test_epochs_reach_the_heads_that_have_them():
    options = ProbeOptions(heads=("linear", "knn"), epochs=7, options={"linear": {"class_weight": "none"}})
    assert options.head_options == {"linear": {"epochs": 7, "class_weight": "none"}}
    own = ProbeOptions(heads=("linear",), epochs=7, options={"linear": {"epochs": 9}})
    assert own.head_options == {"linear": {"epochs": 9}}


def test_the_first_of_the_labels_is_the_scheme():
    assert ProbeOptions().scheme is None
    assert ProbeOptions(labels=("a", "b")).scheme == "a"
    with pytest.raises(UsageError, match="the study names no backbones"):
        Study(("first",), ())
