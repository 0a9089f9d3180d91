"""The detection stage: from a dataset with boxes to detectors, scores, catalogues and figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pandas as pd

from featurestore.backbones.weights import seeded
from featurestore.datasets import open_dataset
from featurestore.datasets.base import ImageDataset
from featurestore.errors import FinetuneError, UsageError
from featurestore.preprocessing import Preprocessing, parse_variant
from featurestore.registry import unknown_name
from finetune.detection.detector import Detector
from finetune.detection.export import coco_dataset, coco_results, sky_catalogue, write_json, write_sky
from finetune.detection.figures import iou_sweep
from finetune.detection.illustration import illustrate
from finetune.detection.results import SCORE_THRESHOLD, DetectionRun, format_table, summarise, to_frame
from finetune.detection.scoring import score_detections
from finetune.detection.stored import DenseViews, StoredMaps, load_views
from finetune.detection.targets import (
    DetectionImages,
    Scene,
    Survey,
    check_preprocessing,
    stratified_table,
    survey_scenes,
)
from finetune.detection.training import TrainingOptions, detect, make_options, train_detector
from finetune.detection.trunk import MODES as TRUNK_MODES
from finetune.detection.trunk import load_trunk, shapes_of
from finetune.loggers import check_loggers, make_logger
from finetune.processes import is_first
from probes.figures.style import save_figure
from probes.outcome import Outcome
from probes.results import write_frame
from probes.splits import Split, check_fractions, divide_rows, order_rows, parse_fractions
from probes.stages import Reporter

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

CHECKPOINT = "last.pt"

STORED = "stored"
MODES = (*TRUNK_MODES, STORED)
"""Those of `finetune.detection.trunk.MODES`; and stored: a frozen backbone whose dense features are in the store."""


@dataclass(frozen=True)
class DetectionStudy:
    """What to train and test.

    Attributes:
        data: Dataset with boxes, as `featurestore.datasets.open_dataset` takes it.
        backbones: Names of backbones.
        mode: One of `MODES`.
        variant: Preprocessing, by name or as a spec, without a crop.
        view: ``all`` classes, or ``source``: one class for every object.
        fractions: Percents of the training images.
        seeds: Runs for each fraction.
        weights: Source of the backbone's weights; the catalogue's for None.
        threshold: Score from which on a detection counts for completeness and reliability.
        training: How to train.
        log: Names of `finetune.loggers.LOGGERS`.
        resume: Whether trainings go on from their checkpoints, where there are any.
    """

    data: str
    backbones: tuple[str, ...]
    mode: str = "frozen"
    variant: str = "resize=256"
    view: str = "all"
    fractions: tuple[int, ...] = (100,)
    seeds: int = 1
    weights: str | None = None
    threshold: float = SCORE_THRESHOLD
    training: TrainingOptions = field(default_factory=TrainingOptions)
    log: tuple[str, ...] = ()
    resume: bool = False

    def __post_init__(self) -> None:
        check_fractions(self.fractions)
        check_loggers(self.log)
        if self.mode not in MODES:
            raise unknown_name("mode", self.mode, MODES)
        if self.seeds < 1 or not self.backbones:
            raise UsageError("a study needs a backbone and a seed", where=self.data, hint="Give at least one of each.")


def make_detection_study(
    data: str,
    backbones: tuple[str, ...],
    *,
    fractions: str = "100",
    augment: bool = True,
    log: tuple[str, ...] = (),
    **given: Any,
) -> DetectionStudy:
    """The study that a command line describes.

    Args:
        data: Path or shortcut of a dataset with boxes.
        backbones: Names of backbones.
        fractions: Percents of the training images, with commas.
        augment: Whether training images are augmented.
        log: Names of `finetune.loggers.LOGGERS`.
        given: Other fields of `DetectionStudy`, and options as of `finetune.detection.training.make_options`.

    Raises:
        UsageError: A fraction is no whole number.
        SkyprobeError: As of `DetectionStudy` and `make_options`.
    """
    own = {name: given.pop(name) for name in list(given) if name in DetectionStudy.__dataclass_fields__}
    training = make_options(augment=augment, **given)
    return DetectionStudy(data, backbones, fractions=parse_fractions(fractions), training=training, log=log, **own)


@dataclass(frozen=True)
class Material:
    """A dataset, divided and looked through.

    Attributes:
        dataset: Where images are read.
        variant: Name of the preprocessing.
        preprocessing: How an image becomes a square.
        split: Rows by their use.
        train: Scenes that train.
        valid: Scenes that validate; may be none.
        test: Scenes that test.
    """

    dataset: ImageDataset
    variant: str
    preprocessing: Preprocessing
    split: Split
    train: Survey
    valid: Survey
    test: Survey

    @property
    def surveys(self) -> tuple[Survey, Survey, Survey]:
        """Training, validation and test."""
        return self.train, self.valid, self.test

    @property
    def watched(self) -> Survey:
        """Images on which the score is followed by epoch: those of the validation split, else those of the test."""
        return self.valid if self.valid.has_objects else self.test

    def scenes(self, fraction: int, seed: int) -> tuple[Scene, ...]:
        """Training scenes of a label fraction, by the rule of `probes.splits.order_rows`."""
        table = stratified_table(self.dataset.table)
        rows, _ = order_rows(table, self.split.train, seed=seed).divide(fraction)
        wanted = set(rows.tolist())
        return tuple(scene for scene in self.train.scenes if scene.row in wanted)

    def images(self, scenes: Sequence[Scene]) -> DetectionImages:
        """Scenes as preprocessed images."""
        return DetectionImages(self.dataset, scenes, self.preprocessing)

    def views(self, store: FeatureStore | None, backbone: str) -> DenseViews:
        """The dense features of these images.

        Raises:
            UsageError: No store.
            SkyprobeError: As of `finetune.detection.stored.load_views`.
        """
        if store is None:
            raise UsageError("the mode stored needs a store", where="store", hint="Name it by --store.")
        return load_views(store, self.dataset.table.name, self.variant, self.preprocessing, backbone)


def detect_study(study: DetectionStudy, store: FeatureStore | None, output: Path, reporter: Reporter) -> Outcome:
    """Train and test a detector for each backbone, fraction and seed, and write what came of it.

    Written to `output`: results.csv and results.parquet (`finetune.detection.results.to_frame`), summary.csv, the
    figure iou_sweep, and truth.json (COCO). To a folder for each run: last.pt, history.csv, detections.json (COCO
    results with the ids of truth.json), catalogue.fits and catalogue.reg where images have celestial coordinates, and
    for the first seed the figures of `finetune.detection.illustration.illustrate`.

    Args:
        study: What to train and test.
        store: Where dense features are, for the mode ``stored``; the others need none.
        output: Folder to write to.
        reporter: Shows progress and notices.

    Raises:
        SkyprobeError: As of the stages. Unreadable images raise nothing; the outcome lists them.
    """
    material = prepare_material(study.data, study.variant, study.view)
    for text in (material.dataset.table.notice, *(survey.describe() for survey in material.surveys)):
        reporter.notice(text)
    files: dict[str, Path] = {}
    runs: list[DetectionRun] = []
    for backbone, fraction, seed in product(study.backbones, study.fractions, range(study.seeds)):
        folder = output / _folder_name(backbone, study.mode, fraction, seed)
        run, history = _train(study, material, backbone, fraction, seed, folder, reporter, store)
        runs.append(run)
        if is_first():
            files |= _write_run(run, history, material, folder)
    if is_first():
        files |= _write_all(runs, output)
    return Outcome(
        tables=(format_table(summarise(runs)),),
        files=files,
        seconds={"detect": sum(run.seconds for run in runs)},
        unreadable={name: reason for survey in material.surveys for name, reason in survey.unreadable.items()},
    )


def prepare_material(data: str, variant: str, view: str) -> Material:
    """Open a dataset with boxes, divide its rows by the rules of `probes.splits`, and look through its images.

    Raises:
        FinetuneError: No object in the training or in the test images.
        SkyprobeError: As of `open_dataset`, `parse_variant` and `survey_scenes`.
    """
    dataset = open_dataset(data)
    name, preprocessing = parse_variant(variant)
    check_preprocessing(preprocessing)
    split = divide_rows(stratified_table(dataset.table))
    surveys = [survey_scenes(dataset, rows, preprocessing, view) for rows in (split.train, split.valid, split.test)]
    if not surveys[0].has_objects or not surveys[2].has_objects:
        raise FinetuneError(
            "a detector needs objects in training and in test images",
            where=data,
            hint="Check which images the splits mark, and that their boxes are no crowd regions.",
        )
    return Material(dataset, name, preprocessing, split, *surveys)


def make_detector(
    study: DetectionStudy, material: Material, backbone: str, seed: int, views: DenseViews | None = None
) -> Detector:
    """The untrained detector; pyramid and heads start from random weights that the seed gives.

    Args:
        study: What to train.
        material: Its images.
        backbone: Name of the backbone; it is not loaded where there are views.
        seed: The seed.
        views: Dense features, for the mode ``stored``.
    """
    side = material.preprocessing.resize
    if views:
        trunk, shapes = None, views.shapes
    else:
        trunk = load_trunk(backbone, study.mode, side, weights=study.weights, seed=seed)
        shapes = shapes_of(trunk, side)
    with seeded(seed):
        return Detector(trunk, shapes, side, len(material.train.classes), study.training.architecture)


def _train(
    study: DetectionStudy,
    material: Material,
    backbone: str,
    fraction: int,
    seed: int,
    folder: Path,
    reporter: Reporter,
    store: FeatureStore | None,
) -> tuple[DetectionRun, pd.DataFrame]:
    started = perf_counter()
    options = study.training
    views = material.views(store, backbone) if study.mode == STORED else None
    if views:  # what is stored cannot be blurred any more; its views are the augmentation
        options = replace(options, augmentation=None)
    if material.watched is material.test:  # nothing may be chosen by a score on test images
        options = replace(options, trainer=replace(options.trainer, keep_best=False, patience=0))
    detector = make_detector(study, material, backbone, seed, views)
    inputs = partial(StoredMaps, views) if views else material.images
    scenes, watched = material.scenes(fraction, seed), inputs(material.watched.scenes)

    def score() -> float:
        return score_detections(watched.scenes, detect(detector, watched), material.train.classes).map50

    history = train_detector(
        detector,
        inputs(scenes),
        options,
        seed,
        score=score,
        checkpoint=folder / CHECKPOINT,
        resume=study.resume,
        progress=reporter.progress(f"train {folder.name}"),
        on_epoch=make_logger(study.log, folder.parent, folder.name),
    )
    run = DetectionRun(
        dataset=material.dataset.table.name,
        variant=material.variant,
        backbone=backbone,
        mode=study.mode,
        view=study.view,
        fraction=fraction,
        seed=seed,
        n_train=len(scenes),
        classes=material.train.classes,
        scenes=material.test.scenes,
        detections=tuple(detect(detector, inputs(material.test.scenes))),
        threshold=study.threshold,
        key=views.key if views else "",
        params=asdict(options) | ({"views": len(views.values), "dense_bytes": views.nbytes} if views else {}),
        seconds=perf_counter() - started,
    )
    return run, history


def _write_run(run: DetectionRun, history: pd.DataFrame, material: Material, folder: Path) -> dict[str, Path]:
    files = {
        "history.csv": write_frame(history, folder / "history.csv"),
        "detections.json": write_json(folder / "detections.json", coco_results(run.scenes, run.detections)),
    }
    catalogue = sky_catalogue(material.dataset, run.scenes, run.detections, run.classes)
    if catalogue is not None:
        files |= write_sky(catalogue, folder)
    if run.seed == 0:
        files |= illustrate(run, history, material.dataset, material.preprocessing, folder)
    return {f"{folder.name}/{name}": path for name, path in files.items()}


def _write_all(runs: Sequence[DetectionRun], output: Path) -> dict[str, Path]:
    frame = to_frame(runs)
    files = {name: write_frame(frame, output / name) for name in ("results.csv", "results.parquet")}
    files["summary.csv"] = write_frame(summarise(runs), output / "summary.csv")
    files["truth.json"] = write_json(output / "truth.json", coco_dataset(runs[0].scenes, runs[0].classes))
    scores = {name: [run.scores for run in own] for name, own in _by_detector(runs)}
    figure = iou_sweep(scores, f"{runs[0].dataset}: mAP of {len(runs[0].scenes)} test images")
    return files | {path.name: path for path in save_figure(figure, output, "iou_sweep").values()}


def _by_detector(runs: Sequence[DetectionRun]) -> Iterator[tuple[str, list[DetectionRun]]]:
    """Name of a detector -> its runs, in the order of the runs."""
    for backbone, fraction in dict.fromkeys((run.backbone, run.fraction) for run in runs):
        own = [run for run in runs if (run.backbone, run.fraction) == (backbone, fraction)]
        yield f"{backbone}, {own[0].mode}, {fraction} %", own


def _folder_name(backbone: str, mode: str, fraction: int, seed: int) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', backbone)}-{mode}-{fraction}-{seed}"
