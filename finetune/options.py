"""Options of training, checked when they are made (`featurestore.options`). Importing this loads no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from featurestore.backbones.engines.base import DEVICES, PRECISIONS
from featurestore.errors import UsageError
from featurestore.options import Amount, Count, Natural, Rate, Share, assign, one_of, options
from featurestore.registry import unknown_name

OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "constant")
MODES = ("head", "full", "top:N", "layerwise", "lora", "scratch")
"""head: a linear layer on the frozen backbone; full: that first, then everything; top:N: the last N blocks;
layerwise: block by block from the top; lora: low-rank adapters; scratch: everything, from random weights."""


@options
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
    rotation: Amount = 0.0
    shift: Share = 0.0
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    noise: Amount = 0.0
    erase: Share = 0.0
    jitter: Share = 0.0


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "none": Augmentation(flips=False),
    "flips": Augmentation(),
    "sky": Augmentation(rotation=180.0, shift=0.05, zoom=0.1, noise=1.0),
}
"""Named augmentations."""


@options
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
        device: ``auto``, ``cpu``, ``cuda``, ``xpu`` or ``mps``. Nothing was tested on a GPU.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``: arithmetic of the forward pass.
    """

    optimiser: Annotated[str, one_of("optimiser", OPTIMISERS)] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    schedule: Annotated[str, one_of("schedule", SCHEDULES)] = "cosine"
    warmup: Amount = 1.0
    accumulation: Count = 1
    clip: Amount = 1.0
    patience: Natural = 10
    score_every: Count = 1
    keep_best: bool = True
    device: Annotated[str, one_of("device", ("auto", *DEVICES))] = "auto"
    precision: Annotated[str, one_of("precision", ("auto", *PRECISIONS))] = "auto"


@options
class ConsistencyOptions:
    """How rows without a label take part; see `finetune.learners.consistency`. Defaults of Sohn et al. 2020.

    Attributes:
        ratio: Unlabelled images for each labelled one in a batch (mu).
        threshold: Probability from which on a pseudo-label is believed, in (0, 1] (tau).
        weight: Weight of their loss (lambda).
        weak: What an unlabelled image goes through before its class is guessed.
        strong: What it goes through before that class is learnt: no change of colour, since fluxes are physical.
    """

    ratio: Count = 7
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    weight: Amount = 1.0
    weak: Augmentation = Augmentation(rotation=180.0, shift=0.05)
    strong: Augmentation = Augmentation(rotation=180.0, shift=0.1, zoom=0.25, noise=2.0, erase=0.25)


def _check_mode(mode: str) -> str:
    if not re.fullmatch(r"head|full|top:[1-9]\d*|layerwise|lora|scratch", mode):
        raise unknown_name("mode", mode, MODES)
    return mode


@options
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
        train_batch_norm: Whether batch normalisation of pretrained backbones takes mean and variance from the training
            batches, and gathers them, or goes on with those of the pretraining; in ``scratch`` it always does the
            former.
        balanced: Whether classes weigh the same in the loss, as in `probes.heads.mlp.MLPProbe`.
        augmentation: What labelled training images go through.
        lora_rank: Largest rank of the adapters; it is halved until `lora_share` holds.
        lora_alpha: Scale of the adapters is alpha / rank.
        lora_share: Share of all parameters below which those that ``lora`` trains have to stay.
        consistency: How rows take part whose labels the fraction hides; None: they do not.
        memory: Bytes of preprocessed images that are cached in memory; more are read anew each time.
        trainer: The loop.
    """

    mode: Annotated[str, AfterValidator(_check_mode)] = "full"
    epochs: Count = 50
    head_epochs: Natural = 10
    batch_size: Count = 32
    learning_rate: Rate = 1e-3
    backbone_rate: Rate = 3e-5
    layer_decay: Rate = 1.0
    weight_decay: Amount = 0.05
    train_batch_norm: bool = False
    balanced: bool = True
    augmentation: Augmentation = AUGMENTATIONS["sky"]
    lora_rank: Count = 8
    lora_alpha: Rate = 16.0
    lora_share: Rate = 0.05
    consistency: ConsistencyOptions | None = None
    memory: Natural = 4 * 2**30
    trainer: TrainerOptions = field(default_factory=TrainerOptions)

    def __post_init__(self) -> None:
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
    mode: str = "full",
    *,
    augment: str = "sky",
    jitter: float = 0.0,
    unlabelled: bool = False,
    **given: Any,
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
        UsageError: A value of another type or out of its range, or options of unlabelled rows without these.
    """
    flat = _Flat(augment, jitter, unlabelled)
    parts = assign(given, _OWNERS, apart=_NESTED)
    if parts["consistency"] and not flat.unlabelled:
        raise UsageError(
            f"{', '.join(parts['consistency'])} without unlabelled rows", where="unlabelled", hint="Add --unlabelled."
        )
    return FinetuneOptions(
        mode,
        augmentation=replace(AUGMENTATIONS[flat.augment], jitter=flat.jitter),
        consistency=ConsistencyOptions(**parts["consistency"]) if flat.unlabelled else None,
        trainer=TrainerOptions(**parts["trainer"]),
        **parts["own"],
    )


@options
class _Flat:
    """Options that stand for several fields."""

    augment: Annotated[str, one_of("augmentation", AUGMENTATIONS)]
    jitter: Share
    unlabelled: bool


_OWNERS = {"trainer": TrainerOptions, "consistency": ConsistencyOptions, "own": FinetuneOptions}
_NESTED = ("mode", "trainer", "consistency", "augmentation", "weak", "strong")
"""Fields that make_options does not take by their own names."""
