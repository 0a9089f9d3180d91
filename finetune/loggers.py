"""Experiment trackers that follow a training, each an option; a library is imported only when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from featurestore.errors import MissingDependencyError
from featurestore.registry import unknown_name

Row = Mapping[str, Any]
Log = Callable[[Row], None]


def make_logger(names: Sequence[str], folder: Path, title: str) -> Log:
    """Something to call with the row of each epoch (see `finetune.trainer.train`); it does nothing for no names.

    Args:
        names: Of `LOGGERS`.
        folder: Where TensorBoard files go; MLflow uses its own tracking address (``MLFLOW_TRACKING_URI``).
        title: Name of the run.

    Raises:
        UnknownNameError: No such logger.
        MissingDependencyError: Its library is not installed.
    """
    check_loggers(names)
    logs = [LOGGERS[name](folder, title) for name in names]

    def log(row: Row) -> None:
        for one in logs:
            one(row)

    return log


def check_loggers(names: Sequence[str]) -> None:
    """Refuse names outside `LOGGERS`; no library is imported.

    Raises:
        UnknownNameError: No such logger.
    """
    for name in names:
        if name not in LOGGERS:
            raise unknown_name("logger", name, LOGGERS)


def _log_to_tensorboard(folder: Path, title: str) -> Log:
    writer = _import("torch.utils.tensorboard", "tensorboard").SummaryWriter(folder / "tensorboard" / title)

    def log(row: Row) -> None:
        for name, value in _numbers(row).items():
            writer.add_scalar(name, value, row["epoch"])
        writer.flush()

    return log


def _log_to_mlflow(_folder: Path, title: str) -> Log:
    client = _import("mlflow", "mlflow").MlflowClient()
    experiment = client.get_experiment_by_name("skyprobe")
    experiment_id = experiment.experiment_id if experiment else client.create_experiment("skyprobe")
    run = client.create_run(experiment_id, run_name=title).info.run_id

    def log(row: Row) -> None:
        for name, value in _numbers(row).items():
            client.log_metric(run, name.replace(":", "."), value, step=row["epoch"])

    return log


LOGGERS: Mapping[str, Callable[[Path, str], Log]] = {"tensorboard": _log_to_tensorboard, "mlflow": _log_to_mlflow}


def _import(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"logging to {package} needs a package that is not installed",
            where=package,
            hint=f"Install it: pip install {package}.",
        ) from error


def _numbers(row: Row) -> dict[str, float]:
    """What can be drawn: finite numbers, without the epoch itself."""
    numbers = {name: value for name, value in row.items() if isinstance(value, float | int) and name != "epoch"}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}
