"""A classifier from a backbone, trained on the rows that probes are fitted on; its result is a row of their tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from featurestore.backbones.base import Backbone
from featurestore.backbones.catalogue import training_rows
from featurestore.backbones.engines.base import resolve_runtime
from featurestore.backbones.loading import load_backbone
from featurestore.store.key import digest
from featurestore.training_rows import check_test_rows
from featurestore.versions import library_versions
from finetune.data.images import Images
from finetune.data.rows import TrainingRows, choose_rows
from finetune.learners.consistency import ConsistencyLearner
from finetune.learners.supervision import SupervisedLearner, pixel_batches, predict
from finetune.models.classifier import SCALING_ROWS, Classifier, plan_stages, trained_share
from finetune.options import FinetuneOptions
from finetune.processes import describe_processes, join_processes
from finetune.trainer import Progress, Row, train
from probes.heads.registry import expand_classes
from probes.results.json_values import json_ready
from probes.results.run import Run
from probes.sweep.splits import describe_split

REVISION = 2
"""Raised by a change that alters the numbers, so that cached runs are not taken for new ones."""


@dataclass(frozen=True)
class Task:
    """One training.

    Attributes:
        backbone: Name of the backbone.
        options: How it is trained.
        fraction: Percent of the training labels.
        seed: Seed of the fraction, of random weights, and of all that is drawn while training.
        pooling: What the head sees; None: the backbone's own.
        scheme: Label scheme; None: the dataset's default.
        weights: Source of the weights; None: the catalogue's. Mode ``scratch`` has random ones.
        trust_remote_code: Whether code that comes with the weights may run.
        allow_seen_rows: Whether a backbone may be tested on rows that it was trained on before.
    """

    backbone: str
    options: FinetuneOptions
    fraction: int = 100
    seed: int = 0
    pooling: str | None = None
    scheme: str | None = None
    weights: str | None = None
    trust_remote_code: bool = False
    allow_seen_rows: bool = False


@dataclass(frozen=True)
class Fit:
    """A training with all that it needs, before its first step.

    Attributes:
        task: What is asked for, with pooling and label scheme decided.
        images: The images.
        rows: Which of them are for what.
        backbone: Loaded; training changes it in place.
        identity: Digest of everything that decides the numbers.
        key: Start of a digest of what fractions and seeds share: is in the column of the features' key.
        notes: What the result has to state of its test rows.
    """

    task: Task
    images: Images
    rows: TrainingRows
    backbone: Backbone
    identity: str
    key: str
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        """The label scheme."""
        return self.images.table.scheme(self.task.scheme)

    @property
    def pooling(self) -> str:
        """What the head sees."""
        return self.task.pooling or self.backbone.spec.poolings[0]


@dataclass(frozen=True)
class Tuned:
    """A trained classifier.

    Attributes:
        fit: What it was made from.
        run: Its result on the test rows.
        classifier: Module, in eval mode; adapters are merged.
        labels: The labels, as indices into the classes, that its outputs stand for.
        history: See `finetune.trainer.train`.
    """

    fit: Fit
    run: Run
    classifier: Classifier
    labels: tuple[int, ...]
    history: pd.DataFrame


def plan_fit(images: Images, task: Task) -> Fit:
    """Choose the rows and load the backbone.

    Raises:
        FinetuneError: See `finetune.data.rows.choose_rows`.
        SeenRowsError: The backbone was trained on test rows before.
        SkyprobeError: See `probes.sweep.splits.split_rows` and `featurestore.backbones.loading.load_backbone`.
    """
    options, table = task.options, images.table
    rows = choose_rows(
        table,
        task.scheme,
        task.fraction,
        task.seed,
        stops_early=options.trainer.patience > 0,
        unlabelled=options.consistency is not None,
    )
    weights = f"random:{task.seed}" if options.mode == "scratch" else task.weights
    backbone = load_backbone(task.backbone, weights, images.preprocessing.resize, task.trust_remote_code)
    tested = [table.sample_ids[row] for row in rows.test]
    trained = training_rows(backbone.spec, backbone.weights_source, table.name)
    notes = check_test_rows(trained, tested, table.name, allow=task.allow_seen_rows)
    method = _describe_method(images, task, backbone)
    known = {
        "method": method,
        "weights": backbone.weights_hash,
        "images": table.fingerprint,
        "labels": table.label_digest(task.scheme),
        "rows": rows.digest,
        "seed": task.seed,
        "libraries": library_versions("training"),
    }
    return Fit(task, images, rows, backbone, digest(known), digest(method)[:12], notes)


def run_fit(
    fit: Fit,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> Tuned:
    """Train, and predict the test rows; arguments as in `finetune.trainer.train`.

    Raises:
        FinetuneError: See `finetune.trainer.train`, `finetune.models.classifier.plan_stages` and
            `finetune.models.lora`; or merged adapters are not what was trained.
    """
    options, seed = fit.task.options, fit.task.seed
    learner, notes = _make_learner(fit)
    history = train(
        learner,
        options.trainer,
        seed,
        identity=fit.identity,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
        on_epoch=on_epoch,
    )
    classifier = learner.module
    if options.mode == "lora":
        device = classifier.mean.device
        classifier.merge_adapters(next(iter(pixel_batches(fit.images, fit.rows.train, options.batch_size, device))))
    probabilities = predict(classifier, fit.images, fit.rows.test, options.batch_size)
    columns = expand_classes(probabilities, learner.classes, len(fit.images.table.classes[fit.scheme]))
    notes |= {"epochs_run": len(history), "saved_epoch": _saved_epoch(history, options)}
    run = _make_run(fit, columns, classifier, notes, float(history["seconds"].sum()))
    return Tuned(fit, run, classifier, tuple(learner.classes.tolist()), history)


def head_name(options: FinetuneOptions) -> str:
    """What is in the column ``head`` of the tables."""
    return f"finetune:{options.mode}"


def _describe_method(images: Images, task: Task, backbone: Backbone) -> dict[str, Any]:
    """All that decides the numbers and is the same for every fraction and seed."""
    options, spec = task.options, backbone.spec
    runtime = resolve_runtime("torch", options.trainer.device, options.trainer.precision)
    return {
        "revision": REVISION,
        "preprocessing": images.preprocessing.resolve(decoder=images.dataset.decoder, mean=spec.mean, std=spec.std),
        "model": f"{spec.adapter}:{spec.model_id}",
        "weights": "random" if options.mode == "scratch" else backbone.weights_hash,
        "pooling": task.pooling or spec.poolings[0],
        "scheme": images.table.scheme(task.scheme),
        "options": asdict(replace(options, memory=0)),
        "runtime": [runtime.device, runtime.precision],
        **describe_processes(),
    }


def _make_learner(fit: Fit) -> tuple[SupervisedLearner, dict[str, Any]]:
    """The learner, and what the result has to state of it."""
    options, rows, images = fit.task.options, fit.rows, fit.images
    labels = images.table.labels[fit.scheme]
    n_classes = len(set(labels[rows.train].tolist()))
    classifier = Classifier(
        fit.backbone,
        fit.pooling,
        n_classes,
        images.preprocessing.resize,
        fit.task.seed,
        train_batch_norm=options.train_batch_norm or options.mode == "scratch",
    ).eval()
    device = torch.device(resolve_runtime("torch", options.trainer.device, options.trainer.precision).device)
    join_processes(device)
    classifier.to(device)
    notes: dict[str, Any] = {"validation": rows.validation, **fit.notes}
    if options.mode != "scratch":  # the features of random weights change their scale with the first steps
        classifier.standardise(pixel_batches(images, rows.train[:SCALING_ROWS], options.batch_size, device))
    if options.mode == "lora":
        notes["rank"] = classifier.add_adapters(options, fit.task.seed)
    stages = plan_stages(classifier, options)
    notes["trained_share"] = trained_share(classifier, stages)
    if options.consistency:
        notes["unlabelled"] = len(rows.unlabelled)
    kind = partial(ConsistencyLearner, options.consistency) if options.consistency else SupervisedLearner
    learner: SupervisedLearner = kind(
        classifier=classifier,
        stages=stages,
        images=images,
        rows=rows,
        labels=labels,
        batch_size=options.batch_size,
        balanced=options.balanced,
        augmentation=options.augmentation,
    )
    return learner, notes


def _saved_epoch(history: pd.DataFrame, options: FinetuneOptions) -> int:
    """The epoch whose weights were saved."""
    scores = history["score"]
    last = scores.isna().all() or not options.trainer.keep_best
    return int(history["epoch"].iloc[-1 if last else int(scores.argmax())])


def _make_run(fit: Fit, probabilities: Any, classifier: Classifier, notes: dict[str, Any], seconds: float) -> Run:
    table, task, rows = fit.images.table, fit.task, fit.rows
    return Run(
        dataset=table.name,
        variant=fit.images.variant,
        backbone=fit.backbone.spec.name,
        pooling=fit.pooling,
        key=fit.key,
        scheme=fit.scheme,
        head=head_name(task.options),
        protocol="fixmatch" if task.options.consistency else "supervised",
        fraction=task.fraction,
        seed=task.seed,
        n_train=len(rows.train),
        n_valid=len(rows.valid),
        n_features=classifier.head.in_features,
        classes=table.classes[fit.scheme],
        sample_ids=tuple(table.sample_ids[row] for row in rows.test),
        truth=table.labels[fit.scheme][rows.test],
        probabilities=probabilities,
        params=json_ready(asdict(task.options) | notes),
        seconds=seconds,
        split=describe_split(table, fit.scheme),
    )
