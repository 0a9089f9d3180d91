"""Options of training, all checked when they are made. Importing this module loads no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from featurestore.backbones.engines.base import DEVICES, PRECISIONS
from featurestore.errors import UsageError
from featurestore.registry import unknown_name

OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant")
MODES = ("head", "full", "top:N", "layerwise", "lora", "scratch")
"""head: a linear layer on the frozen backbone; full: that first, then everything; top:N: the last N blocks;
layerwise: block by block from the top; lora: low-rank adapters; scratch: everything, from random weights."""


def _check_choice(noun: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise unknown_name(noun, value, known)


def _check_least(options: object, least: float, *names: str) -> None:
    for name, value in _values(options, names).items():
        if not value >= least:
            raise UsageError(f"{name} must be at least {least}", where=f"{name}={value}", hint="Leave it out.")


def _check_positive(options: object, *names: str) -> None:
    for name, value in _values(options, names).items():
        if not 0 < value < float("inf"):
            raise UsageError(f"{name} must be positive", where=f"{name}={value}", hint="Leave it out.")


def _check_most(options: object, most: float, *names: str) -> None:
    for name, value in _values(options, names).items():
        if not value <= most:
            raise UsageError(f"{name} must be at most {most}", where=f"{name}={value}", hint="Leave it out.")


def _values(options: object, names: Sequence[str]) -> Mapping[str, float]:
    return {name: getattr(options, name) for name in names}


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images; see `finetune.data.augmentation`.

    Attributes:
        flips: Whether each axis is flipped with probability 1/2.
        rotation: Largest angle in degrees to either side; 180 makes all orientations as likely.
        shift: Largest shift along each axis, as a share of the side.
        zoom: Largest relative change of scale, below 1.
        noise: Largest standard deviation of added normal noise, as a multiple of the image's own noise.
        erase: Largest share of the image that a square of its median level covers, up to 1.
        jitter: Largest relative change of brightness, contrast and saturation; 0 keeps fluxes physical.
    """

    flips: bool = True
    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    noise: float = 0.0
    erase: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check_least(self, 0, "rotation", "shift", "zoom", "noise", "erase", "jitter")
        _check_most(self, 1, "shift", "zoom", "erase", "jitter")


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "none": Augmentation(flips=False),
    "flips": Augmentation(),
    "sky": Augmentation(rotation=180.0, shift=0.05, zoom=0.1, noise=1.0),
}
"""Named augmentations."""


@dataclass(frozen=True)
class TrainerOptions:
    """How the training loop runs, whatever is learnt.

    Attributes:
        optimiser: ``adamw``, or ``sgd`` with Nesterov momentum.
        momentum: Of ``sgd``.
        schedule: ``cosine`` (to zero within each stage) or ``constant``.
        warmup: Epochs over which the learning rate rises linearly, at the start of each stage.
        accumulation: Batches whose gradients make one step.
        clip: Largest norm of the gradient; 0: not clipped.
        patience: Epochs of the last stage without a better score after which training stops; 0: it never does.
        score_every: Epochs between two measurements of the score; the last epoch is always measured.
        keep_best: Whether the weights of the best score are kept, or those of the last epoch.
        device: ``auto``, ``cpu`` or ``cuda``. Nothing was tested on a GPU.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``: arithmetic of the forward pass.
    """

    optimiser: str = "adamw"
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 1.0
    accumulation: int = 1
    clip: float = 1.0
    patience: int = 10
    score_every: int = 1
    keep_best: bool = True
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        _check_choice("optimiser", self.optimiser, OPTIMISERS)
        _check_choice("schedule", self.schedule, SCHEDULES)
        _check_choice("device", self.device, ("auto", *DEVICES))
        _check_choice("precision", self.precision, ("auto", *PRECISIONS))
        _check_least(self, 0, "warmup", "clip", "patience", "momentum")
        _check_least(self, 1, "accumulation", "score_every")
        _check_most(self, 0.9999, "momentum")


@dataclass(frozen=True)
class ConsistencyOptions:
    """How rows without a label take part; see `finetune.learners.consistency`. Defaults of Sohn et al. 2020.

    Attributes:
        ratio: Unlabelled images for each labelled one in a batch (mu).
        threshold: Probability from which on a pseudo-label is believed, in (0, 1] (tau).
        weight: Weight of their loss (lambda).
        weak: What an unlabelled image goes through before its class is guessed.
        strong: What it goes through before that class is learnt: no change of colour, since fluxes are physical.
    """

    ratio: int = 7
    threshold: float = 0.95
    weight: float = 1.0
    weak: Augmentation = Augmentation(rotation=180.0, shift=0.05)
    strong: Augmentation = Augmentation(rotation=180.0, shift=0.1, zoom=0.25, noise=2.0, erase=0.25)

    def __post_init__(self) -> None:
        _check_least(self, 1, "ratio")
        _check_least(self, 0, "weight")
        if not 0 < self.threshold <= 1:
            raise UsageError(
                "the threshold is a probability", where=f"threshold={self.threshold}", hint="Use for example 0.95."
            )


@dataclass(frozen=True)
class FinetuneOptions:
    """How a classifier is trained.

    Attributes:
        mode: One of `MODES`, with a number for N.
        epochs: Passes over the training rows, over all stages; early stopping may leave some out.
        head_epochs: Epochs of the head alone that come first in ``full``, ``top:N`` and ``layerwise``.
        batch_size: Images a batch.
        learning_rate: Of the head, of adapters, and of everything in ``scratch``.
        backbone_rate: Of pretrained weights: of the last block, where rates decay.
        layer_decay: Factor from the rate of each block to that of the one below it; 1: all the same.
        weight_decay: Of weights; biases and scales of norms have none.
        balanced: Whether classes weigh the same in the loss, as in `probes.heads.mlp.MLPProbe`.
        augmentation: What labelled training images go through.
        lora_rank: Largest rank of the adapters; it is halved until `lora_share` holds.
        lora_alpha: Scale of the adapters is alpha / rank.
        lora_share: Share of all parameters below which those that ``lora`` trains have to stay.
        consistency: How rows take part whose labels the fraction hides; None: they do not.
        memory: Bytes of preprocessed images that are kept in memory; more are read anew each time.
        trainer: The loop.
    """

    mode: str = "full"
    epochs: int = 50
    head_epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    backbone_rate: float = 1e-4
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    balanced: bool = True
    augmentation: Augmentation = AUGMENTATIONS["sky"]
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_share: float = 0.05
    consistency: ConsistencyOptions | None = None
    memory: int = 4 * 2**30
    trainer: TrainerOptions = field(default_factory=TrainerOptions)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"head|full|top:[1-9]\d*|layerwise|lora|scratch", self.mode):
            raise unknown_name("mode", self.mode, MODES)
        _check_least(self, 1, "epochs", "batch_size", "lora_rank")
        _check_least(self, 0, "head_epochs", "weight_decay", "memory")
        _check_positive(self, "learning_rate", "backbone_rate", "layer_decay", "lora_alpha", "lora_share")
        if self.starts_with_head and self.head_epochs >= self.epochs:
            raise UsageError(
                f"the head alone takes {self.head_epochs} of {self.epochs} epochs, and none are left",
                where=f"mode={self.mode}",
                hint="Give more epochs, or fewer head epochs.",
            )

    @property
    def starts_with_head(self) -> bool:
        """Whether the head is trained alone before anything else."""
        return self.head_epochs > 0 and self.mode not in ("head", "lora", "scratch")

    @property
    def n_top(self) -> int:
        """N of ``top:N``."""
        return int(self.mode.partition(":")[2])


def make_options(
    mode: str = "full", *, augment: str = "sky", jitter: float = 0.0, unlabelled: bool = False, **given: Any
) -> FinetuneOptions:
    """Options from flat names, as on a command line; None keeps a default.

    Args:
        mode: One of `MODES`.
        augment: A name of `AUGMENTATIONS`.
        jitter: See `Augmentation`.
        unlabelled: Whether rows without a label take part.
        given: Fields of `FinetuneOptions`, `TrainerOptions` and `ConsistencyOptions`.

    Raises:
        UnknownNameError: No such option, mode or choice.
        UsageError: A value out of its range, or options of unlabelled rows without these.
    """
    _check_choice("augmentation", augment, tuple(AUGMENTATIONS))
    parts: dict[str, dict[str, Any]] = {"trainer": {}, "consistency": {}, "": {}}
    for name, value in given.items():
        if value is not None:
            parts[_owner(name)][name] = value
    if parts["consistency"] and not unlabelled:
        raise UsageError(
            f"{', '.join(parts['consistency'])} without unlabelled rows", where="unlabelled", hint="Add --unlabelled."
        )
    consistency = ConsistencyOptions(**parts["consistency"]) if unlabelled else None
    augmentation = replace(AUGMENTATIONS[augment], jitter=jitter)
    trainer = TrainerOptions(**parts["trainer"])
    return FinetuneOptions(mode, augmentation=augmentation, consistency=consistency, trainer=trainer, **parts[""])


def _owner(name: str) -> str:
    for owner, kind in (("trainer", TrainerOptions), ("consistency", ConsistencyOptions), ("", FinetuneOptions)):
        if name in kind.__dataclass_fields__ and name not in ("trainer", "consistency", "mode"):
            return owner
    names = {*TrainerOptions.__dataclass_fields__, *FinetuneOptions.__dataclass_fields__}
    raise unknown_name("option", name, names)
