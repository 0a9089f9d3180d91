from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from featurestore.errors import MissingDependencyError, UnknownNameError
from finetune import loggers
from finetune.loggers import make_logger

ROW = {"epoch": 3, "stage": "all", "loss": 0.5, "score": float("nan"), "rate:head": 1e-3}


class Recorder:
    """Stands in for both trackers, which are not installed."""

    def __init__(self):
        self.seen = []

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self.seen.append((name, args, kwargs))
            if name == "get_experiment_by_name":
                return None
            return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

        return call


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()

    def make(*args, **kwargs):
        recorder.seen.append(("made", args, kwargs))
        return recorder

    fake = SimpleNamespace(SummaryWriter=make, MlflowClient=make)
    monkeypatch.setattr(loggers, "import_module", lambda _: fake)
    return recorder


def calls(recorder, name):
    return [(args, kwargs) for called, args, kwargs in recorder.seen if called == name]


def test_nothing_is_imported_unless_asked_for(tmp_path):
    make_logger((), tmp_path, "run")(ROW)
    assert not {"tensorboard", "mlflow"} & set(sys.modules)


def test_tensorboard_gets_finite_numbers(tmp_path, recorder):
    make_logger(("tensorboard",), tmp_path, "run")(ROW)
    assert calls(recorder, "made") == [((tmp_path / "tensorboard" / "run",), {})]
    assert calls(recorder, "add_scalar") == [(("loss", 0.5, 3), {}), (("rate:head", 1e-3, 3), {})]


def test_mlflow_gets_names_that_it_allows(tmp_path, recorder):
    make_logger(("mlflow",), tmp_path, "my run")(ROW)
    assert calls(recorder, "create_run")[0][1] == {"run_name": "my run"}
    assert calls(recorder, "log_metric") == [
        (("r1", "loss", 0.5), {"step": 3}),
        (("r1", "rate.head", 1e-3), {"step": 3}),
    ]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_library_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=f"logging to {name} needs .*pip install {name}"):
        make_logger((name,), tmp_path, "run")


def test_an_unknown_logger_is_an_error(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown logger 'tensorbord'.*tensorboard"):
        make_logger(("tensorbord",), tmp_path, "run")
