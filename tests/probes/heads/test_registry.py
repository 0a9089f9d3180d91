"""Parameters of heads by name, and probabilities of some classes among all."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import is_classifier

from featurestore.errors import UnknownNameError, UsageError
from probes.heads.registry import HEADS, expand_classes, head_params

BUILT_IN = ("centroid", "knn", "linear", "mlp", "whitened", "whitened-mlp")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_head_is_a_classifier_with_the_contract(name):
    head = HEADS.get(name)()
    assert is_classifier(head)
    assert set(head.protocols) == {"cv", "paper"}
    assert isinstance(head.uses_validation, bool)
    assert isinstance(head.uses_groups, bool)


def test_a_head_is_given_what_it_has_a_parameter_for():
    assert head_params("knn", "cv", 3, {"n_neighbors": 5}) == {"n_neighbors": 5}
    assert head_params("linear", "paper", 3, {"epochs": 7}) == {"protocol": "paper", "random_state": 3, "epochs": 7}


def test_options_come_before_protocol_and_seed():
    assert head_params("mlp", "cv", 3, {"random_state": 9})["random_state"] == 9


def test_unknown_parameters_and_protocols_are_refused():
    with pytest.raises(UnknownNameError, match=r"epoch.*epochs"):
        head_params("linear", "cv", 0, {"epoch": 3})
    with pytest.raises(UsageError, match=r"the head 'knn' has no protocol 'svm'.*cv or paper"):
        head_params("knn", "svm", 0, {})
    with pytest.raises(UnknownNameError, match=r"linaer.*linear"):
        head_params("linaer", "cv", 0, {})


def test_classes_that_were_not_learnt_have_no_probability():
    found = expand_classes(np.array([[0.25, 0.75], [1, 0]]), np.array([0, 3]), 4)
    assert found.dtype == np.float32
    assert found.tolist() == [[0.25, 0, 0, 0.75], [1, 0, 0, 0]]
