"""Training of a detector, by the trainer that classification uses too, and its use on images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from featurestore.backbones.weights import hash_weights
from featurestore.errors import FinetuneError
from featurestore.options import Amount, Count, Rate, assign, options
from featurestore.store.key import digest
from finetune.detection.augmentation import Augmentation, augment_target
from finetune.detection.detector import Architecture, Detector
from finetune.detection.targets import DetectionInputs, Detections, from_square
from finetune.options import TrainerOptions
from finetune.trainer import Group, Progress, Row, Stage, device_of, shuffle_rows, train

Item = tuple[Tensor, Mapping[str, Tensor]]
"""A preprocessed image and its target."""

_TRAINER = TrainerOptions(
    optimiser="sgd", momentum=0.9, schedule="constant", warmup=1, clip=0, patience=0, score_every=10, keep_best=False
)
"""The study's optimiser; the last epoch counts."""


@options
class TrainingOptions:
    """How a detector is trained; the defaults are the study's.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: Of all that is trained.
        weight_decay: Of all that is trained; the study does not state one, this is torchvision's.
        augmentation: What happens to training images; None: nothing.
        architecture: Sizes of pyramid and heads.
        trainer: Of the loop: SGD with Nesterov momentum 0.9, whose rate rises during the first epoch.
    """

    epochs: Count = 100
    batch_size: Count = 16
    learning_rate: Rate = 1e-3
    weight_decay: Amount = 1e-4
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    architecture: Architecture = field(default_factory=Architecture)
    trainer: TrainerOptions = _TRAINER


def make_options(*, augment: bool = True, **given: Any) -> TrainingOptions:
    """Options from flat names, those of `Augmentation`, `Architecture` and `TrainerOptions` among them.

    Args:
        augment: Whether training images are augmented.
        **given: Values by name; None keeps a default.

    Raises:
        UnknownNameError: No such option or choice.
        UsageError: A value of another type or out of its range.
    """
    parts = assign(given, _OWNERS, apart=_NESTED)
    return TrainingOptions(
        augmentation=Augmentation(**parts["augmentation"]) if augment else None,
        architecture=Architecture(**parts["architecture"]),
        trainer=replace(_TRAINER, **parts["trainer"]),
        **parts["own"],
    )


_OWNERS = {
    "own": TrainingOptions,
    "augmentation": Augmentation,
    "architecture": Architecture,
    "trainer": TrainerOptions,
}
_NESTED = ("augmentation", "architecture", "trainer")
"""Fields that make_options does not take by their own names."""


class DetectorLearner:
    """A detector and its training images, as `finetune.trainer.train` takes them.

    Args:
        detector: What is trained: every parameter that needs a gradient.
        images: Training images with their targets.
        options: How.
        score: Gives the mAP of the detector on images that do not train.

    Raises:
        FinetuneError: No training image.
    """

    def __init__(
        self, detector: Detector, images: DetectionInputs, options: TrainingOptions, score: Callable[[], float]
    ) -> None:
        if not len(images):
            raise FinetuneError("there are no training images", where="train", hint="Mark images as train.")
        self.module, self.images, self.options, self.score = detector, images, options, score
        trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        group = Group("detector", trained, options.learning_rate, options.weight_decay)
        self.stages = (Stage("detect", options.epochs, [group]),)

    def batches(self, rng: np.random.Generator) -> Sequence[Any]:
        """Numbers of what each step looks at: one view of every image, drawn at random."""
        n = len(self.images)
        batches = shuffle_rows(n, self.options.batch_size, rng)
        return [rows + n * rng.integers(self.images.n_views, size=len(rows)) for rows in batches]

    def load(self, batch: Any) -> list[Item]:
        """Images with their targets, not yet augmented."""
        return [self.images[int(index)] for index in batch]

    def losses(self, loaded: list[Item]) -> Mapping[str, Tensor]:
        """The four losses of Faster R-CNN on the augmented images."""
        if self.options.augmentation is not None:
            loaded = [augment_target(self.options.augmentation, image, target) for image, target in loaded]
        device = device_of(self.module)
        inputs = _move(self.images.collate([image for image, _ in loaded]), device)
        targets = [{name: one.to(device) for name, one in target.items()} for _, target in loaded]
        losses: Mapping[str, Tensor] = self.module(inputs, targets)
        return losses


def train_detector(
    detector: Detector,
    images: DetectionInputs,
    options: TrainingOptions,
    seed: int,
    *,
    score: Callable[[], float] = lambda: np.nan,
    identity: str = "",
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> pd.DataFrame:
    """Train in place, and leave the detector in eval mode; see `finetune.trainer.train`.

    Args:
        detector: What is trained; parameters that need no gradient stay as they are.
        images: Training images with their targets.
        options: How to train.
        seed: Seed of order, augmentation and sampling.
        score: Gives the mAP@50 of the detector, which is in eval mode; NaN where it is not measured.
        identity: Digest of what else decides the result. Options, seed, images with their boxes, and the weights that
            the detector starts from are known here; a checkpoint that differs in any of them is refused.
        checkpoint: Replaced after each epoch; None: nothing is written.
        resume: Whether to go on from the checkpoint, where there is one.
        progress: Called after each step.
        on_epoch: Called with the row of each epoch.

    Returns:
        One row an epoch, as `finetune.trainer.train` gives it; the losses are ``loss_objectness``,
        ``loss_rpn_box_reg``, ``loss_classifier`` and ``loss_box_reg``.

    Raises:
        FinetuneError: No training image; or see `finetune.trainer.train`.
    """
    learner = DetectorLearner(detector, images, options, score)
    return train(
        learner,
        options.trainer,
        seed,
        identity=_identify(learner, seed, identity),
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
        on_epoch=on_epoch,
    )


@torch.no_grad()
def detect(detector: Detector, images: DetectionInputs, batch_size: int = 16) -> list[Detections]:
    """What a detector finds in each image, in pixels of the image as it was read; it is left in eval mode."""
    detector.eval()
    found: list[dict[str, Tensor]] = []
    for start in range(0, len(images), batch_size):
        inputs = [images[index][0] for index in range(start, min(start + batch_size, len(images)))]
        found += detector(_move(images.collate(inputs), device_of(detector)))
    return [
        Detections(
            boxes=from_square(one["boxes"].cpu().numpy(), truth.size, detector.side),
            labels=one["labels"].cpu().numpy() - 1,
            scores=one["scores"].cpu().numpy(),
        )
        for truth, one in zip(images.annotated, found, strict=True)
    ]


def _move(inputs: Tensor | Mapping[str, Tensor], device: torch.device) -> Tensor | dict[str, Tensor]:
    """Images or maps on a device."""
    return inputs.to(device) if isinstance(inputs, Tensor) else {name: one.to(device) for name, one in inputs.items()}


def _identify(learner: DetectorLearner, seed: int, more: str) -> str:
    """Digest of whatever decides the result, for checkpoints."""
    annotations = hashlib.sha256()
    for one in learner.images.annotated:
        annotations.update(f"{one.sample_id}\0{one.size}\0".encode())
        annotations.update(one.boxes.tobytes() + one.labels.tobytes() + one.crowd.tobytes())
    return digest({
        "more": more,
        "options": asdict(learner.options),
        "seed": seed,
        "images": learner.images.identity,
        "annotations": annotations.hexdigest(),
        "trained": [name for name, one in learner.module.named_parameters() if one.requires_grad],
        "weights": hash_weights(learner.module),
    })  # fmt: skip
