"""spread_probes: each feature matrix of a study is probed on a machine of a Ray cluster; the store keeps the runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import SkyprobeError, StoreWriteError
from featurestore.extraction.executors.ray import connected
from featurestore.reporter import Reporter
from featurestore.store import open_store

if TYPE_CHECKING:
    from featurestore.store import FeatureStore
    from studies.study_file.spec import Study

_RETRIES = 2


def spread_probes(study: Study, store: FeatureStore, address: str | None, reporter: Reporter) -> None:
    """Fit the heads of every matrix of a study, each in one task of Ray, which takes a whole machine.

    Afterwards the store has all runs, and `studies.stages.probe_study` fits nothing.

    Args:
        study: What to fit.
        store: Where the features are, and the runs go.
        address: ``auto``, HOST:PORT, or None: a Ray on this machine.
        reporter: Shows progress.

    Raises:
        StoreWriteError: The store cannot keep the runs.
        SkyprobeError: What a task raised.
    """
    if store.storage.read_only:
        raise StoreWriteError(
            "runs of other machines come back through the store, which cannot be written",
            where=store.path,
            hint="Leave out --executor ray.",
        )
    parts = list_matrices(study)
    where = store.path if "://" in store.path else str(Path(store.path).absolute())
    with connected(address):
        _run_tasks([(part, where, str(Path.cwd())) for part in parts], reporter.progress("probe on Ray"))


def list_matrices(study: Study) -> list[Study]:
    """A study for each feature matrix of a study."""
    every = product(study.datasets, study.backbones, study.variants)
    return [replace(study, datasets=(data,), backbones=(name,), variants=(variant,)) for data, name, variant in every]


def probe_matrix(study: Study, store: str, folder: str) -> SkyprobeError | None:
    """Probe one matrix, in whatever process; its runs go to the store. An error that says what to do is returned."""
    from studies.stages import open_features, probe

    os.chdir(folder)
    opened, reporter = open_store(store, mode="a"), _Quiet()
    try:
        probe(study, open_features(study, opened, reporter), opened, reporter)
    except SkyprobeError as error:
        return error
    finally:
        opened.close()
    return None


class _Quiet:
    """What the user is told comes from the first process."""

    def progress(self, label: str) -> Callable[[int, int], None]:  # noqa: ARG002
        return lambda _done, _total: None

    def notice(self, text: str) -> None:
        pass


def _run_tasks(given: Sequence[tuple[Study, str, str]], progress: Callable[[int, int], None]) -> None:
    import ray

    cluster: Any = ray  # parts of it have no types
    cpus = min(node["Resources"].get("CPU", 1) for node in cluster.nodes() if node["Alive"])
    task = cluster.remote(probe_matrix).options(num_cpus=cpus, max_retries=_RETRIES, scheduling_strategy="SPREAD")
    waiting = [task.remote(*each) for each in given]
    while waiting:
        done, waiting = cluster.wait(waiting)
        for error in cluster.get(done):
            if error:
                raise error
        progress(len(given) - len(waiting), len(given))
