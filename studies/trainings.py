"""Trainings of a study file, its tables ``[[finetune]]`` and ``[[detect]]``, and what a store keeps of trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import UsageError
from finetune.run_cache import kept_runs
from studies.contribution import Contribution
from studies.spec import convert_values
from studies.stages import dataset_name

if TYPE_CHECKING:
    from featurestore.reporter import Reporter, StageResult
    from featurestore.store import FeatureStore
    from finetune.detection.study import DetectionStudy
    from finetune.study import FinetuneStudy
    from studies.spec import Study


_HERE = ("data", "options", "training", "resume")
"""Fields of the studies of trainings that no table sets: they follow from the others."""


@dataclass(frozen=True)
class Trainings:
    """What to train beside the probes; called, it trains, and tells what the store keeps of trainings.

    Attributes:
        finetune: Trainings of classifiers.
        detect: Trainings of detectors.
    """

    finetune: tuple[FinetuneStudy, ...] = ()
    detect: tuple[DetectionStudy, ...] = ()

    def __call__(
        self, store: FeatureStore, schemes: Mapping[str, Sequence[str]], output: Path, reporter: Reporter
    ) -> Contribution:
        """Train what is not trained yet, each study in a folder of its own; then show all of these datasets."""
        outcomes = [
            *self._tune(store, output / "finetune", reporter),
            *self._detect(store, output / "detect", reporter),
        ]
        datasets = {*schemes, *(dataset_name(one.data, store) for one in self.detect)}
        return _show(store, schemes, sorted(datasets), outcomes, reporter)

    def _tune(self, store: FeatureStore, output: Path, reporter: Reporter) -> Iterator[StageResult]:
        for number, one in enumerate(self.finetune, start=1):
            from finetune.study import finetune_study

            yield finetune_study(one, store, output / f"{number:02d}-{_name(one.options.mode)}", reporter)

    def _detect(self, store: FeatureStore, output: Path, reporter: Reporter) -> Iterator[StageResult]:
        for number, one in enumerate(self.detect, start=1):
            from finetune.detection.study import detect_study

            yield detect_study(one, store, output / f"{number:02d}-{_name(one.mode)}", reporter)


def plan_trainings(study: Study) -> Trainings:
    """The trainings that a study file asks for, all checked before the first image is read.

    A table takes what it does not say from the study: datasets, backbones, fractions, seeds, and for classifiers
    variants, pooling and labels. Beside the fields of `FinetuneStudy` and `DetectionStudy` it takes the options of
    `finetune.options.make_options` and `finetune.detection.training.make_options`.

    Raises:
        UsageError: A value has the wrong type or is out of its range.
        UnknownNameError: A key, mode or choice that does not exist.
    """
    return Trainings(
        tuple(one for at, table in enumerate(study.finetune, 1) for one in _plan_finetune(table, study, at)),
        tuple(one for at, table in enumerate(study.detect, 1) for one in _plan_detect(table, study, at)),
    )


def _plan_finetune(table: Mapping[str, Any], study: Study, number: int) -> Iterator[FinetuneStudy]:
    from finetune.options import make_options
    from finetune.study import FinetuneStudy

    where = f"[[finetune]], table {number}"
    probe = study.probe
    shared = {"variants": study.variants, "pooling": probe.pooling, "weights": study.extract.weights}
    shared |= {"labels": next((text for text in probe.labels if not text.endswith((".toml", ".csv"))), None)}
    datasets, own, options = _divide(FinetuneStudy, table, study, where)
    made = _make(make_options, options, where)
    for data in datasets:
        yield FinetuneStudy(data, **shared | own, options=made, resume=True)


def _plan_detect(table: Mapping[str, Any], study: Study, number: int) -> Iterator[DetectionStudy]:
    from finetune.detection.study import DetectionStudy
    from finetune.detection.training import make_options

    where = f"[[detect]], table {number}"
    datasets, own, options = _divide(DetectionStudy, table, study, where)
    made = _make(make_options, options, where)
    for data in datasets:
        yield DetectionStudy(data, **{"weights": study.extract.weights} | own, training=made, resume=True)


def _divide(
    kind: type, table: Mapping[str, Any], study: Study, where: str
) -> tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]:
    """The datasets of a table, the fields of its study, and options of the training."""
    names = set(kind.__dataclass_fields__) - set(_HERE)  # type: ignore[attr-defined]
    own = convert_values(kind, {name: value for name, value in table.items() if name in names}, where)
    shared = {"backbones": study.backbones, "fractions": study.probe.fractions, "seeds": study.probe.seeds}
    datasets = table.get("datasets", list(study.datasets))
    if not isinstance(datasets, list) or not all(isinstance(one, str) for one in datasets):
        raise UsageError(f"{datasets!r} is no list of datasets", where=where, hint='Write datasets = ["first"].')
    options = {name: value for name, value in table.items() if name not in names | {"datasets"}}
    return tuple(datasets), shared | own, options


def _make(make: Any, options: Mapping[str, Any], where: str) -> Any:
    """Options of a training; a value of a wrong type shows itself in their comparisons."""
    try:
        return make(**options)
    except TypeError as error:
        raise UsageError(f"a value has the wrong type: {error}", where=where, hint="Correct the value.") from error


def _show(
    store: FeatureStore,
    schemes: Mapping[str, Sequence[str]],
    datasets: Sequence[str],
    outcomes: Sequence[StageResult],
    reporter: Reporter,
) -> Contribution:
    from finetune.detection import run_cache as kept
    from studies.report.detection import detection_figures, detection_tables

    pairs = [(name, scheme) for name, own in schemes.items() for scheme in own]
    detectors = kept.kept_runs(store, datasets)
    return Contribution(
        runs=[run for name, scheme in pairs for run in kept_runs(store, [name], scheme)],
        tables=detection_tables(detectors),
        captioned_figures=detection_figures(detectors, reporter.notice),
        files={f"{path.parent.name}/{path.name}": path for outcome in outcomes for path in outcome.files.values()},
        unreadable={name: reason for outcome in outcomes for name, reason in outcome.unreadable.items()},
    )


def _name(mode: str) -> str:
    return mode.replace(":", "-")
