"""What every built-in head keeps: scikit-learn's checks, seeds, plain arrays, messages."""

import random
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from probes.heads.base import weigh_classes
from probes.heads.centroid import CentroidProbe
from probes.heads.knn import KNNProbe
from probes.heads.linear import LinearProbe, WhitenedProbe
from probes.heads.mlp import MLPProbe, WhitenedMLPProbe
from probes.heads.registry import HEADS, head_params
from probes.heads.whitening import Whitening

QUICK = {"Cs": (1e-2, 1.0), "cv": 2}
FAST = {"protocol": "paper", "learning_rate": 0.1}  # the study's step is made for 100 epochs of thousands of rows

CASES = [
    LinearProbe(**QUICK),
    LinearProbe(**FAST),
    WhitenedProbe(**QUICK),
    WhitenedProbe(**FAST),
    MLPProbe(),
    MLPProbe(**FAST),
    WhitenedMLPProbe(),
    WhitenedMLPProbe(whitening="zca", **FAST),
    CentroidProbe(),
    CentroidProbe(3.0),
    KNNProbe(),
    KNNProbe("euclidean", n_neighbors=3),
]


@pytest.fixture(params=CASES, ids=str)
def head(request):
    return type(request.param)(**request.param.get_params())


@pytest.fixture
def blobs():
    X, y = make_blobs([30, 24, 20], n_features=6, cluster_std=3.0, random_state=3)
    return X.astype(np.float32), y


@parametrize_with_checks([*CASES, Whitening(), Whitening("zca", shrinkage=0.1)])
def test_scikit_learns_own_checks_pass(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", ["centroid", "knn", "linear", "mlp", "whitened", "whitened-mlp"])
@pytest.mark.parametrize("protocol", ["cv", "paper"])
def test_the_registered_heads_take_both_protocols(name, protocol, blobs):
    head = HEADS.get(name)(**head_params(name, protocol, 1, {}))
    assert head.fit(*blobs).predict_proba(blobs[0]).shape == (74, 3)
    assert all(isinstance(value, float | int | str) for value in head.chosen_.values())
    assert head.get_params().get("protocol", protocol) == protocol


def test_a_head_comes_back_from_plain_arrays(head, blobs, tmp_path):
    X, y = blobs
    head.fit(X, y + 5)
    np.savez(tmp_path / "head.npz", **head.to_arrays())
    with np.load(tmp_path / "head.npz", allow_pickle=False) as arrays:
        back = type(head).from_arrays(arrays)
    np.testing.assert_array_equal(back.predict_proba(X), head.predict_proba(X))
    np.testing.assert_array_equal(back.predict(X), head.predict(X))
    with pytest.raises(ValueError, match="features"):
        back.predict(X[:, :3])


def test_the_arrays_are_numbers(head, blobs):
    assert {values.dtype.kind for values in head.fit(*blobs).to_arrays().values()} <= set("biuf")


def test_an_unfitted_head_has_no_arrays(head):
    with pytest.raises(NotFittedError):
        head.to_arrays()


def test_a_seed_gives_the_same_bits_whatever_the_global_state(head, blobs):
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    first = head.fit(*blobs).to_arrays()
    np.random.seed(2)  # noqa: NPY002
    before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    second = type(head)(**head.get_params()).fit(*blobs).to_arrays()
    after = np.random.get_state()[1], random.getstate()  # noqa: NPY002
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1] == after[1]
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


@pytest.mark.parametrize("case", [case for case in CASES if getattr(case, "protocol", "") == "paper"], ids=str)
def test_another_seed_gives_other_weights(case, blobs):
    one, two = (type(case)(**case.get_params() | {"random_state": seed}).fit(*blobs) for seed in (0, 1))
    assert not np.allclose(one.coef_, two.coef_)


def test_probabilities_are_float32_and_follow_the_sorted_labels(head, blobs):
    X, y = blobs
    names = np.array(["wide", "bent", "compact"])[y]
    head.fit(X, names)
    probabilities = head.predict_proba(X)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (len(X), 3)
    np.testing.assert_array_equal(head.classes_, ["bent", "compact", "wide"])
    np.testing.assert_array_equal(head.predict(X), head.classes_[probabilities.argmax(axis=1)])
    assert (head.predict(X) == names).mean() > 0.6


def test_one_class_is_refused(head, blobs):
    with pytest.raises(ValueError, match="one class only: 4"):
        head.fit(blobs[0], np.full(len(blobs[0]), 4))


def test_nan_is_refused(head, blobs):
    X, y = blobs
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        head.fit(X, y)


@pytest.mark.parametrize("kind", [LinearProbe, WhitenedProbe, MLPProbe])
def test_an_unknown_protocol_is_refused(kind, blobs):
    with pytest.raises(ValueError, match="cv, paper, not 'papre'"):
        kind(protocol="papre").fit(*blobs)


def test_balanced_weights_are_inverse_to_the_counts():
    columns = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    weights = weigh_classes("balanced", np.array([3, 5, 8]), columns)
    np.testing.assert_allclose(weights * [6, 3, 1], 10 / 3, rtol=1e-6)
    for equal in (None, "none"):
        np.testing.assert_array_equal(weigh_classes(equal, np.array([3, 5, 8]), columns), [1, 1, 1])
    np.testing.assert_array_equal(weigh_classes({3: 2.0, 8: 7.0}, np.array([3, 5, 8]), columns), [2, 1, 7])


@pytest.mark.parametrize("scale", [1e-30, 1e18, 1e30])
def test_features_of_any_size_give_what_ordinary_ones_give(head, blobs, scale):
    X, y = blobs
    scaled = X * np.float32(scale)
    one, other = (type(head)(**head.get_params()).fit(values, y) for values in (X, scaled))
    np.testing.assert_allclose(other.predict_proba(scaled), one.predict_proba(X), atol=1e-2)


@pytest.mark.parametrize("case", [case for case in CASES if case.uses_groups], ids=str)
def test_groups_of_one_row_each_change_nothing(case, blobs):
    X, y = blobs
    names = np.array([f"g{row}" for row in range(len(X))])
    one, other = (type(case)(**case.get_params()).fit(X, y, groups=groups) for groups in (None, names))
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize("case", [case for case in CASES if case.uses_groups], ids=str)
def test_groups_of_another_length_are_refused(case, blobs):
    with pytest.raises(ValueError, match="groups has 3 values for 74 rows"):
        type(case)(**case.get_params()).fit(*blobs, groups=[0, 0, 1])


def test_heads_load_no_torch():
    heads = "probes.heads.linear, probes.heads.mlp, probes.heads.whitening, probes.heads.knn, probes.heads.centroid"
    code = f"import sys, {heads}, probes.heads.calibration; "
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
