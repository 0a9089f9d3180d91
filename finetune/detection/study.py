"""The detection stage: from a dataset with boxes to detectors, scores, catalogues and figures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd

from featurestore.backbones.catalogue import find_spec, training_rows
from featurestore.backbones.engines.base import resolve_runtime
from featurestore.backbones.weights import fingerprint, parse_weights, seeded
from featurestore.errors import UsageError
from featurestore.files import write_atomically
from featurestore.options import Count, Names, Numbers, Share, one_of, options
from featurestore.reporter import Reporter, StageResult
from featurestore.store.key import digest
from featurestore.training_rows import check_test_rows, recorded_rows
from featurestore.versions import library_versions
from finetune.checkpoints import RESUME, telling
from finetune.detection.body import MODES as BODY_MODES
from finetune.detection.body import load_body, shapes_of
from finetune.detection.data import DetectionData, prepare_data
from finetune.detection.detector import Detector
from finetune.detection.evaluation import score_detections
from finetune.detection.export import coco_dataset, coco_results, sky_catalogue, tell_without_sky, write_json, write_sky
from finetune.detection.features import DenseViews, StoredMaps
from finetune.detection.figures import illustrate, iou_sweep
from finetune.detection.results import SCORE_THRESHOLD, DetectionRun, by_detector, format_table, summarise, to_frame
from finetune.detection.run_cache import cached_run, save_run
from finetune.detection.targets import VIEWS
from finetune.detection.training import TrainingOptions, detect, make_options, train_detector
from finetune.loggers import check_loggers, make_logger
from finetune.processes import describe_processes, is_first
from probes.plotting import save_figure
from probes.results.json_values import json_ready
from probes.results.run import write_frame
from probes.sweep.splits import check_fractions, parse_fractions

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

CHECKPOINT, CARD = "last.pt", "card.json"
"""Files in the folder of a run: the detector, and what it is."""

REVISION = 2
"""Raised by a change that alters the numbers, so that saved runs are not taken for new ones."""

STORED = "stored"
MODES = (*BODY_MODES, STORED)
"""Those of `finetune.detection.body.MODES`; and stored: a frozen backbone whose dense features are in the store."""


@options
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
        allow_seen_rows: Whether a backbone may be tested on images that it was trained on before.
        log: Names of `finetune.loggers.LOGGERS`.
        resume: Whether trainings go on from their checkpoints, where there are any.
    """

    data: str
    backbones: Names
    mode: Annotated[str, one_of("mode", MODES)] = "frozen"
    variant: str = "resize=256"
    view: Annotated[str, one_of("view of the classes", VIEWS)] = "all"
    fractions: Numbers = (100,)
    seeds: Count = 1
    weights: str | None = None
    threshold: Share = SCORE_THRESHOLD
    training: TrainingOptions = field(default_factory=TrainingOptions)
    allow_seen_rows: bool = False
    log: Names = ()
    resume: bool = False

    def __post_init__(self) -> None:
        check_fractions(self.fractions)
        check_loggers(self.log)
        if not self.backbones:
            raise UsageError("the study names no backbones", where="backbones", hint="Give at least one.")


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
        given: Other fields of `DetectionStudy`, and options as in `finetune.detection.training.make_options`.

    Raises:
        UsageError: A fraction is not a whole number.
        SkyprobeError: See `DetectionStudy` and `make_options`.
    """
    own = {name: given.pop(name) for name in list(given) if name in DetectionStudy.__dataclass_fields__}
    training = make_options(augment=augment, **given)
    return DetectionStudy(data, backbones, fractions=parse_fractions(fractions), training=training, log=log, **own)


@dataclass(frozen=True)
class Job:
    """One training of a study.

    Attributes:
        backbone: Name of the backbone.
        fraction: Percent of the training images.
        seed: Seed of subset, initialisation and training.
    """

    backbone: str
    fraction: int
    seed: int

    def folder_name(self, mode: str) -> str:
        """Name of the folder that its files are in."""
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', self.backbone)}-{mode}-{self.fraction}-{self.seed}"


def detect_study(study: DetectionStudy, store: FeatureStore | None, output: Path, reporter: Reporter) -> StageResult:
    """Train and test a detector for each backbone, fraction and seed, and write what came of it.

    What was trained before, and still has its files in `output`, is read from the store.

    Written to `output`: results.csv and results.parquet (`finetune.detection.results.to_frame`), summary.csv, the
    figure iou_sweep, and truth.json (COCO). To a folder for each run: last.pt, card.json (what that is), history.csv,
    detections.json (COCO results with the ids of truth.json), catalogue.fits and catalogue.reg where images have
    celestial coordinates, and for the first seed the figures of `finetune.detection.figures.illustrate`.

    Args:
        study: What to train and test.
        store: Opened for writing, it caches the runs; dense features are in it, for the mode ``stored``. None: nothing
            is cached.
        output: Folder to write to.
        reporter: Shows progress and notices.

    Raises:
        SkyprobeError: See the stages. Unreadable images raise nothing; the result lists them.
    """
    started = perf_counter()
    data = prepare_data(study.data, study.variant, study.view)
    reporter.notice(f"{data.dataset.table.name}: {data.told}")
    for text in (data.dataset.table.notice, *(part.describe() for part in data.annotation_sets)):
        reporter.notice(text)
    if data.watched is data.test and (study.training.trainer.keep_best or study.training.trainer.patience):
        reporter.notice(
            f"{data.dataset.table.name}: no validation image has an object, so nothing is chosen by the score: "
            "training goes on to the last epoch, whose weights count."
        )
    reporter.notice(tell_without_sky(data.dataset, data.test.images))
    files: dict[str, Path] = {}
    runs: list[DetectionRun] = []
    for job in map(Job, *zip(*product(study.backbones, study.fractions, range(study.seeds)), strict=True)):
        run, written = _run_once(study, data, job, output / job.folder_name(study.mode), reporter, store)
        runs.append(run)
        files |= written
    if is_first():
        files |= _write_all(runs, output)
    return StageResult(
        tables=(format_table(summarise(runs)),),
        files=files,
        seconds={"detect": perf_counter() - started},
        unreadable={name: reason for part in data.annotation_sets for name, reason in part.unreadable.items()},
    )


def make_detector(
    study: DetectionStudy, data: DetectionData, backbone: str, seed: int, views: DenseViews | None = None
) -> Detector:
    """The untrained detector; pyramid and heads start from random weights that the seed gives.

    Args:
        study: What to train.
        data: Its images.
        backbone: Name of the backbone; it is not loaded where there are views.
        seed: The seed.
        views: Dense features, for the mode ``stored``.
    """
    side = data.preprocessing.resize
    if views:
        body, shapes = None, views.shapes
    else:
        body = load_body(backbone, study.mode, side, weights=study.weights, seed=seed)
        shapes = shapes_of(body, side)
    with seeded(seed):
        return Detector(body, shapes, side, len(data.train.classes), study.training.architecture, data.limit)


def _run_once(
    study: DetectionStudy,
    data: DetectionData,
    job: Job,
    folder: Path,
    reporter: Reporter,
    store: FeatureStore | None,
) -> tuple[DetectionRun, dict[str, Path]]:
    """The run of one training and its files: as cached, or trained now."""
    views = data.views(store, job.backbone) if study.mode == STORED else None
    notes = _check_seen(study, data, job, views)
    identity = digest(_describe(study, data, job, views))
    known, finished = cached_run(store, identity) if store else None, _read_card(folder).get("identity")
    if known and finished == identity:
        told = replace(known, params={**known.params, **notes}, method=_method(study, data, job, views))
        if store and is_first() and (told.params, told.method) != (known.params, known.method):
            save_run(store, identity, told, data.dataset.table)  # an older version did not know them
        return told, {f"{folder.name}/{path.name}": path for path in sorted(folder.iterdir())}
    if study.resume and finished not in (None, identity):
        reporter.notice(f"{folder.name}: a detector of other weights, options or data is replaced")
        study = replace(study, resume=False)
    if is_first():
        (folder / CARD).unlink(missing_ok=True)  # what is being trained is no longer what the card says
    run, history = _train(study, data, job, folder, reporter, views, notes, identity)
    files: dict[str, Path] = {}
    if is_first():
        with telling(folder, RESUME):
            files = _write_run(run, history, data, folder)
            files |= {f"{folder.name}/{CARD}": _write_card(run, identity, folder)}
            if store:
                save_run(store, identity, run, data.dataset.table)
    return run, files


def _check_seen(study: DetectionStudy, data: DetectionData, job: Job, views: DenseViews | None) -> dict[str, Any]:
    """What the result has to state of test images that the backbone was trained on before."""
    spec, table = find_spec(job.backbone), data.dataset.table
    weights = "random:" if study.mode == "scratch" else study.weights or spec.weights
    trained = recorded_rows(views.provenance) if views else training_rows(spec, weights, table.name)
    tested = [truth.sample_id for truth in data.test.images]
    return check_test_rows(trained, tested, table.name, allow=study.allow_seen_rows)


def _describe(study: DetectionStudy, data: DetectionData, job: Job, views: DenseViews | None) -> dict[str, Any]:
    """Everything that decides the numbers of a run."""
    spec = find_spec(job.backbone)
    weights = f"random:{job.seed}" if study.mode == "scratch" else study.weights or spec.weights
    return {
        "revision": REVISION,
        "job": asdict(job),
        "model": f"{spec.adapter}:{spec.model_id}@{spec.revision}",
        "weights": [views.key, *map(str, views.preprocessings)] if views else fingerprint(parse_weights(weights)),
        "study": [study.mode, study.variant, study.view, study.threshold],
        "training": json_ready(asdict(study.training)),
        "data": data.digest,
        "libraries": library_versions("training"),
        **_describe_machine(study),
    }


def _describe_machine(study: DetectionStudy) -> dict[str, Any]:
    """Device, precision and processes, where they differ from one process on a CPU; ``auto`` names none of them."""
    runtime = resolve_runtime("torch", study.training.trainer.device, study.training.trainer.precision)
    plain = (runtime.device, runtime.precision) == ("cpu", "fp32")
    return describe_processes() | ({} if plain else {"runtime": [runtime.device, runtime.precision]})


def _method(study: DetectionStudy, data: DetectionData, job: Job, views: DenseViews | None) -> str:
    """Start of a digest of what fractions and seeds share."""
    return digest(_describe(study, data, replace(job, fraction=0, seed=0), views))[:6]


def _fit_options(study: DetectionStudy, data: DetectionData, views: DenseViews | None) -> TrainingOptions:
    """The options as far as these data allow them."""
    options = study.training
    if views:  # what is stored cannot be blurred any more; its views are the augmentation
        options = replace(options, augmentation=None)
    if data.watched is data.test:  # nothing may be chosen by a score on test images
        options = replace(options, trainer=replace(options.trainer, keep_best=False, patience=0))
    return options


def _train(
    study: DetectionStudy,
    data: DetectionData,
    job: Job,
    folder: Path,
    reporter: Reporter,
    views: DenseViews | None,
    notes: Mapping[str, Any],
    identity: str,
) -> tuple[DetectionRun, pd.DataFrame]:
    started, options = perf_counter(), _fit_options(study, data, views)
    detector = make_detector(study, data, job.backbone, job.seed, views)
    inputs = partial(StoredMaps, views) if views else data.inputs
    annotated, watched = data.training_images(job.fraction, job.seed), inputs(data.watched.images)

    def score() -> float:
        return score_detections(watched.annotated, detect(detector, watched), data.train.classes).map50

    history = train_detector(
        detector,
        inputs(annotated),
        options,
        job.seed,
        score=score,
        identity=identity,
        checkpoint=folder / CHECKPOINT,
        resume=study.resume,
        progress=reporter.progress(f"train {folder.name}"),
        on_epoch=make_logger(study.log, folder.parent, folder.name),
    )
    run = DetectionRun(
        dataset=data.dataset.table.name,
        variant=data.variant,
        mode=study.mode,
        view=study.view,
        **asdict(job),
        n_train=len(annotated),
        classes=data.train.classes,
        images=data.test.images,
        detections=tuple(detect(detector, inputs(data.test.images))),
        threshold=study.threshold,
        key=views.key if views else "",
        params=json_ready(
            asdict(options) | dict(notes) | ({"views": len(views.values), "dense_bytes": views.nbytes} if views else {})
        ),
        seconds=perf_counter() - started,
        split=data.told,
        method=_method(study, data, job, views),
    )
    return run, history


def _read_card(folder: Path) -> dict[str, Any]:
    """What the detector in a folder is; nothing where a card or the detector is missing."""
    path = folder / CARD
    if not path.exists() or not (folder / CHECKPOINT).exists():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a damaged card says nothing: the detector is trained again
        return {}
    return card if isinstance(card, dict) else {}


def _write_card(run: DetectionRun, identity: str, folder: Path) -> Path:
    """Say beside the checkpoint what it is."""
    card = {"identity": identity, **run.identity, "mode": run.mode, "classes": list(run.classes), "params": run.params}
    text = json.dumps(card, indent=2)
    return write_atomically(folder / CARD, lambda part: part.write_text(text, encoding="utf-8"))


def _write_run(run: DetectionRun, history: pd.DataFrame, data: DetectionData, folder: Path) -> dict[str, Path]:
    files = {
        "history.csv": write_frame(history, folder / "history.csv"),
        "detections.json": write_json(folder / "detections.json", coco_results(run.images, run.detections)),
    }
    catalogue = sky_catalogue(data.dataset, run.images, run.detections, run.classes)
    if catalogue is not None:
        files |= write_sky(catalogue, folder)
    if run.seed == 0:
        files |= illustrate(run, history, data.dataset, data.preprocessing, folder)
    return {f"{folder.name}/{name}": path for name, path in files.items()}


def _write_all(runs: Sequence[DetectionRun], output: Path) -> dict[str, Path]:
    frame = to_frame(runs)
    files = {name: write_frame(frame, output / name) for name in ("results.csv", "results.parquet")}
    files["summary.csv"] = write_frame(summarise(runs), output / "summary.csv")
    files["truth.json"] = write_json(output / "truth.json", coco_dataset(runs[0].images, runs[0].classes))
    scores = {name: [run.scores for run in own] for name, own in by_detector(runs)}
    figure = iou_sweep(scores, f"{runs[0].dataset}: mAP of {len(runs[0].images)} test images")
    return files | {path.name: path for path in save_figure(figure, output, "iou_sweep").values()}
