"""Source detection on real VLA FIRST fields: a frozen Lite0 against the same network from scratch, on one CPU.

The data are not part of the project: the environment variable RGZ_FIRST_BOXES names their folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import process_time

import numpy as np

from benchmarks.row import Row
from finetune.detection.data import DetectionData, prepare_data
from finetune.detection.detector import Architecture
from finetune.detection.evaluation import score_detections
from finetune.detection.results import DetectionRun, compare
from finetune.detection.study import DetectionStudy, make_detector
from finetune.detection.training import TrainingOptions, detect, train_detector

DATA = Path(os.environ.get("RGZ_FIRST_BOXES", Path(__file__).parents[2] / "shared" / "data" / "rgz_first_boxes"))
BACKBONE, VARIANT = "efficientnet-lite0", "resize=192,stretch=asinh:0.1"
CPU_MINUTES = 15
"""What one frozen detector may cost, training and test."""

GOOD_FIT = 0.9
"""mAP@50 that eight memorised images have to exceed."""


@dataclass(frozen=True)
class Budget:
    """How much is trained; the network is narrower than published, for the sake of the CPU.

    Attributes:
        epochs: Of every detector.
        seeds: View of the classes -> runs of every detector.
        memorise: Epochs on eight images.
        rate: Learning rate of heads that have to be ready after few epochs; the study's 1e-3 is for a hundred.
        memorise_rate: Learning rate for the eight images, without augmentation; the other lets a tuned network diverge.
        architecture: Sizes of pyramid and heads.
    """

    epochs: int = 8
    seeds: Mapping[str, int] = field(default_factory=lambda: {"source": 3, "all": 1})
    memorise: int = 100
    rate: float = 1e-2
    memorise_rate: float = 4e-3
    architecture: Architecture = field(default_factory=lambda: Architecture(channels=64, hidden=256, regions=64))

    def training(self, epochs: int) -> TrainingOptions:
        """Options of one training."""
        return TrainingOptions(epochs=epochs, learning_rate=self.rate, architecture=self.architecture)


def measure(budget: Budget | None = None) -> Iterator[Row]:
    """One class, the six classes, and eight images learnt by heart."""
    budget = budget or Budget()
    for view in budget.seeds:
        yield from _compare_modes(view, budget)
    yield _memorise(budget)


def _compare_modes(view: str, budget: Budget) -> Iterator[Row]:
    """The cost of the frozen detector, and its score against the one from scratch."""
    data = prepare_data(f"rgz:{DATA}", VARIANT, view)
    study = DetectionStudy(str(DATA), (BACKBONE,), variant=VARIANT, view=view, training=budget.training(budget.epochs))
    frozen = [_run(study, data, seed) for seed in range(budget.seeds[view])]
    scratch = [_run(replace(study, mode="scratch"), data, seed) for seed in range(budget.seeds[view])]
    minutes, other = (float(np.median([run.seconds for run in runs])) / 60 for runs in (frozen, scratch))
    what = f"{view}: {len(data.train.classes)} class(es), {frozen[0].n_train} fields, {budget.epochs} epochs"
    yield Row(
        f"frozen Lite0 detector, {what}", "CPU min", minutes, minutes / CPU_MINUTES, 1, at_most=True,
        peers={"from scratch": other}, note=f"training and test of one seed; {VARIANT}, {_sizes(budget)}",
    )  # fmt: skip
    difference = compare(scratch, frozen)
    yield Row(
        f"frozen Lite0 against from scratch, {what}", "mAP@50", _mean(frozen), difference.value,
        peers={"from scratch": _mean(scratch)},
        note=f"difference {difference.value:+.3f}, {difference.confidence:.0%} interval [{difference.low:+.3f}, "
        f"{difference.high:+.3f}] over {len(frozen[0].images)} test fields; seeds {_list(frozen)} and "
        f"{_list(scratch)}; equal epochs{_rarest(data)}",
    )  # fmt: skip


def _run(study: DetectionStudy, data: DetectionData, seed: int) -> DetectionRun:
    """Train and test one detector; its seconds are those of the processor."""
    started = process_time()
    detector, images = make_detector(study, data, BACKBONE, seed), data.inputs(data.train.images)
    train_detector(detector, images, study.training, seed)
    detections = tuple(detect(detector, data.inputs(data.test.images)))
    return DetectionRun(
        data.dataset.table.name, VARIANT, BACKBONE, study.mode, study.view, 100, seed, len(images),
        data.train.classes, data.test.images, detections, seconds=process_time() - started,
    )  # fmt: skip


def _memorise(budget: Budget) -> Row:
    """The sanity bar: eight images without augmentation, tested on themselves."""
    data = prepare_data(f"rgz:{DATA}", VARIANT, "source")
    budget = replace(budget, rate=budget.memorise_rate)
    options = replace(budget.training(budget.memorise), augmentation=None, batch_size=4)
    study = DetectionStudy(str(DATA), (BACKBONE,), mode="tuned", variant=VARIANT, view="source", training=options)
    images = data.inputs(data.train.images[:8])
    detector = make_detector(study, data, BACKBONE, 0)
    train_detector(detector, images, options, 0)
    score = score_detections(images.annotated, detect(detector, images), data.train.classes).map50
    return Row(
        f"eight fields learnt by heart, {budget.memorise} epochs", "mAP@50", score, score, GOOD_FIT,
        note=f"tuned Lite0, {VARIANT}, {_sizes(budget)}; tested on the training fields",
    )  # fmt: skip


def _mean(runs: Sequence[DetectionRun]) -> float:
    return float(np.mean([run.scores.map50 for run in runs]))


def _list(runs: Sequence[DetectionRun]) -> str:
    return ", ".join(f"{run.scores.map50:.3f}" for run in runs)


def _sizes(budget: Budget) -> str:
    sizes = budget.architecture
    return f"{sizes.channels} channels, {sizes.hidden} hidden, {sizes.regions} regions, rate {budget.rate:g}"


def _rarest(data: DetectionData) -> str:
    """A warning of the class with the fewest boxes, where there are several."""
    classes = data.train.classes
    if len(classes) == 1:
        return ""
    labels = [truth.labels[~truth.crowd] for part in data.annotation_sets for truth in part.images]
    counts = np.bincount(np.concatenate(labels), minlength=len(classes))
    rarest = int(counts.argmin())
    return f"; of {classes[rarest]} there are {counts[rarest]} boxes in all, so its AP says little"
