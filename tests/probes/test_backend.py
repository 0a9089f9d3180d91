"""The choice between scikit-learn and cuML, with stand-ins for the modules that need a GPU."""

import sys
from types import SimpleNamespace

import pytest
from sklearn.linear_model import LogisticRegression

from probes.backend import active_backend, logistic_regression


@pytest.fixture
def install(monkeypatch):
    """``install(has_device)`` puts stand-ins of cuML and CuPy in place; an exception is raised where CuPy asks."""

    def put(has_device):
        def answer():
            if isinstance(has_device, Exception):
                raise has_device
            return has_device

        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(is_available=answer)))
        monkeypatch.setitem(sys.modules, "cuml", SimpleNamespace(LogisticRegression=lambda **given: given))

    active_backend.cache_clear()
    yield put
    active_backend.cache_clear()


def test_without_cuml_scikit_learn_runs(install, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuml", None)
    assert active_backend() == "scikit-learn"
    model = logistic_regression(tol=1e-3, class_weight={0: 2.0})
    assert isinstance(model, LogisticRegression)
    assert (model.tol, model.class_weight) == (1e-3, {0: 2.0})


@pytest.mark.parametrize("answer", [False, RuntimeError("no driver"), OSError("libcuda.so.1")], ids=repr)
def test_without_a_device_scikit_learn_runs(install, answer):
    install(answer)
    assert active_backend() == "scikit-learn"


def test_with_a_device_cuml_runs_and_is_asked_for_the_same_problem(install):
    install(True)
    assert active_backend() == "cuml"
    given = logistic_regression(tol=1e-3, class_weight={0: 2.0})
    assert given.items() >= {"tol": 1e-3, "class_weight": {0: 2.0}, "output_type": "numpy"}.items()
