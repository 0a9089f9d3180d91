"""Trainings of a study file, its tables ``[[finetune]]`` and ``[[detect]]``, and what a store keeps of trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import UsageError
from featurestore.label_mapping import is_mapping
from studies.cached_runs import part_outdated, trained_runs
from studies.sources import find_dataset
from studies.study_file.reader import placed

if TYPE_CHECKING:
    from featurestore.reporter import Reporter, StageResult
    from featurestore.store import FeatureStore
    from finetune.detection.study import DetectionStudy
    from finetune.study import FinetuneStudy
    from probes.plotting import CaptionedFigure
    from probes.results.run import Run
    from probes.results.tables import Table
    from studies.study_file.spec import Study


_HERE = ("data", "options", "training", "resume")
"""Fields of the studies of trainings that no table sets: they follow from the others."""


@dataclass(frozen=True)
class Trainings:
    """What to train beside the probes.

    Attributes:
        finetune: Trainings of classifiers.
        detect: Trainings of detectors.
        remarks: What the study asks for and trainings cannot do.
    """

    finetune: tuple[FinetuneStudy, ...] = ()
    detect: tuple[DetectionStudy, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingResults:
    """What a report shows of trainings.

    Attributes:
        runs: Runs for the tables of the probes.
        tables: Tables of detectors, which have other metrics.
        captioned_figures: Figures of them.
        files: What was written: name -> path.
        unreadable: sample id -> reason, of images that could not be read.
    """

    runs: Sequence[Run] = ()
    tables: Sequence[Table] = ()
    captioned_figures: Sequence[CaptionedFigure] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


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
        tuple(_tell_labels(study)),
    )


def carry_out(
    trainings: Trainings,
    store: FeatureStore,
    schemes: Mapping[str, Sequence[str]],
    output: Path,
    reporter: Reporter,
) -> TrainingResults:
    """Train what is not trained yet, each study in a folder of its own; then show all that the store has of trainings.

    Args:
        trainings: What to train; nothing: what is cached is shown.
        store: Where runs are cached.
        schemes: Dataset -> label schemes that are shown.
        output: Folder of the study.
        reporter: Shows progress.
    """
    for text in trainings.remarks:
        reporter.notice(text)
    finished = [
        *_tune(trainings.finetune, store, output / "finetune", reporter),
        *_detect(trainings.detect, store, output / "detect", reporter),
    ]
    datasets = {*schemes, *(find_dataset(store, one.data) for one in trainings.detect)}
    return _show(store, schemes, sorted(datasets), finished, reporter)


def _tune(
    studies: Sequence[FinetuneStudy], store: FeatureStore, output: Path, reporter: Reporter
) -> Iterator[StageResult]:
    for number, one in enumerate(studies, start=1):
        from finetune.study import finetune_study

        yield finetune_study(one, store, output / f"{number:02d}-{_name(one.options.mode)}", reporter)


def _detect(
    studies: Sequence[DetectionStudy], store: FeatureStore, output: Path, reporter: Reporter
) -> Iterator[StageResult]:
    for number, one in enumerate(studies, start=1):
        from finetune.detection.study import detect_study

        yield detect_study(one, store, output / f"{number:02d}-{_name(one.mode)}", reporter)


def _plan_finetune(table: Mapping[str, Any], study: Study, number: int) -> Iterator[FinetuneStudy]:
    from finetune.options import make_options
    from finetune.study import FinetuneStudy

    probe = study.probe
    shared = {"variants": study.variants, "pooling": probe.pooling, "weights": study.extract.weights}
    shared |= {"labels": _find_scheme(probe.labels)}
    place = ("finetune", number - 1)
    datasets, own, options = _divide(FinetuneStudy, table, study, place)
    with placed(study.file, table, *place):
        made = make_options(**options)
        for data in datasets:
            yield FinetuneStudy(data, **shared | own, options=made, resume=True)


def _find_scheme(labels: Sequence[str]) -> str | None:
    """The first of the labels that trainings can learn; None: the default scheme of each dataset."""
    return next((text for text in labels if not is_mapping(text)), None)


def _tell_labels(study: Study) -> Iterator[str]:
    """Labels that heads are fitted on and trainings do not learn."""
    labels, learnt = study.probe.labels, _find_scheme(study.probe.labels)
    left = [text for text in labels if text != learnt]
    if left and any("labels" not in table for table in study.finetune):
        name = learnt or "the default label scheme of each dataset"
        yield (
            f"Trainings learn {name}, not {', '.join(left)}: they take one label scheme, and no mapping file. Name "
            'another with labels = "SCHEME" in [[finetune]].'
        )


def _plan_detect(table: Mapping[str, Any], study: Study, number: int) -> Iterator[DetectionStudy]:
    from finetune.detection.study import DetectionStudy
    from finetune.detection.training import make_options

    place = ("detect", number - 1)
    datasets, own, options = _divide(DetectionStudy, table, study, place)
    with placed(study.file, table, *place):
        made = make_options(**options)
        for data in datasets:
            yield DetectionStudy(data, **{"weights": study.extract.weights} | own, training=made, resume=True)


def _divide(
    kind: type, table: Mapping[str, Any], study: Study, place: tuple[str | int, ...]
) -> tuple[tuple[str, ...], dict[str, Any], dict[str, Any]]:
    """The datasets of a table, the fields of its study, and options of the training."""
    names = set(kind.__dataclass_fields__) - set(_HERE)  # type: ignore[attr-defined]
    own = {name: value for name, value in table.items() if name in names}
    shared = {"backbones": study.backbones, "fractions": study.probe.fractions, "seeds": study.probe.seeds}
    datasets = table.get("datasets", list(study.datasets))
    if not isinstance(datasets, list) or not all(isinstance(one, str) for one in datasets):
        where = study.file.locate(*place, "datasets") if study.file else "datasets"
        raise UsageError(f"{datasets!r} is not a list of datasets", where=where, hint='Write datasets = ["first"].')
    options = {name: value for name, value in table.items() if name not in names | {"datasets"}}
    return tuple(datasets), shared | own, options


def _show(
    store: FeatureStore,
    schemes: Mapping[str, Sequence[str]],
    datasets: Sequence[str],
    finished: Sequence[StageResult],
    reporter: Reporter,
) -> TrainingResults:
    from finetune.detection import run_cache as detectors
    from studies.report.detection import detection_figures, detection_tables

    runs = []
    for table, scheme in [(store.dataset(name), scheme) for name, own in schemes.items() for scheme in own]:
        current, outdated = part_outdated(trained_runs(store, table, scheme), table, scheme)
        runs += current
        if outdated:
            reporter.notice(
                f"{table.name}: {len(outdated)} trainings were tested on labels that have changed, and left out."
            )
    detected = detectors.cached_runs(store, datasets)
    return TrainingResults(
        runs=runs,
        tables=detection_tables(detected),
        captioned_figures=detection_figures(detected, reporter.notice),
        files={f"{path.parent.name}/{path.name}": path for one in finished for path in one.files.values()},
        unreadable={name: reason for one in finished for name, reason in one.unreadable.items()},
    )


def _name(mode: str) -> str:
    return mode.replace(":", "-")
