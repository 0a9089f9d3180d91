"""Classifier: a backbone, a pooling and a linear head as one module; and what each mode trains of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from featurestore.backbones.base import Backbone
from featurestore.backbones.loading import first_run
from featurestore.backbones.pooling import pool
from featurestore.backbones.weights import seeded
from featurestore.errors import FinetuneError, PoolingError, UsageError
from finetune.freezing import count_parameters, hold_statistics, parameter_layers
from finetune.models.lora import (
    adapter_parameters,
    add_adapters,
    check_used,
    choose_rank,
    find_targets,
    merge_adapters,
)
from finetune.options import FinetuneOptions
from finetune.trainer import Group, Stage

SCALING_ROWS = 1024
"""Training rows whose features decide the scaling in front of the head, at most."""

MERGE_TOLERANCE = 1e-3
"""Relative difference of the outputs, above which a merged model is not the trained one; rounding makes 1e-6 of it."""


class Classifier(nn.Module):
    """Pixels in [0, 1] to logits.

    Args:
        backbone: A loaded backbone; its module is used in place.
        pooling: One that it offers.
        n_classes: Outputs.
        image_size: Side of the images in pixels.
        seed: Seed of the head's initial weights.
        train_batch_norm: Whether batch normalisation of the backbone is ever in training mode.

    Attributes:
        tokens: The backbone's module.
        head: The linear layer, on standardised features.
        centre: (d,) subtracted from the features; 0 until `standardise`.
        scale: (d,) that the features are divided by; 1 until `standardise`.

    Raises:
        PoolingError: The backbone does not offer the pooling.
        UsageError: The backbone ends at an inner layer.
        BackboneError: It does not run on images of that size.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        backbone: Backbone,
        pooling: str,
        n_classes: int,
        image_size: int,
        seed: int,
        *,
        train_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.train_batch_norm = train_batch_norm
        spec = backbone.spec
        if spec.layer is not None:
            raise UsageError(
                "training takes whole backbones", where=spec.name, hint=f"Use {spec.base}; layers can be probed."
            )
        if pooling not in spec.poolings:
            raise PoolingError(
                f"{spec.name} does not offer the pooling {pooling!r}",
                where=spec.name,
                hint=f"It offers {', '.join(spec.poolings)}.",
            )
        self.pooling = pooling
        self.tokens: nn.Module = backbone.tokens
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).reshape(1, 3, 1, 1), persistent=False)
        self._image_size = image_size
        with first_run(spec, image_size):
            width = self._features_of_blank_image().shape[1]
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        with seeded(seed):
            self.head = nn.Linear(width, n_classes)

    def train(self, mode: bool = True) -> Classifier:
        """Training mode; batch normalisation of the backbone takes part only where that is asked for."""
        super().train(mode)
        if not self.train_batch_norm:
            hold_statistics(self.tokens)
        return self

    def features(self, pixels: Tensor) -> Tensor:
        """Pooled features, (B, d), of float pixels (B, 3, S, S) in [0, 1]."""
        return pool(self.tokens((pixels - self.mean) / self.std), self.pooling)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits, (B, n_classes), of float pixels (B, 3, S, S) in [0, 1]."""
        logits: Tensor = self.head((self.features(pixels) - self.centre) / self.scale)
        return logits

    @torch.no_grad()
    def standardise(self, batches: Iterable[Tensor]) -> None:
        """Scale the features to mean 0 and deviation 1 over these pixels, as the probes do, once and for all.

        A deviation below a tenth of their root mean square is raised to that: a feature that hardly varies now may do
        so as soon as the backbone is trained.
        """
        features = torch.cat([self.features(pixels) for pixels in batches])
        deviation = features.std(dim=0, correction=0)
        floor = deviation.square().mean().sqrt() / 10
        self.centre.copy_(features.mean(dim=0))
        self.scale.copy_(deviation.clamp(min=float(floor) or 1.0))

    def add_adapters(self, options: FinetuneOptions, seed: int) -> int:
        """Give the backbone adapters, and return their rank."""
        targets, n_head = find_targets(self.tokens), count_parameters(self.head)
        rank = choose_rank(targets, n_head, count_parameters(self), options.lora_rank, options.lora_share)
        self.tokens = add_adapters(self.tokens, rank, options.lora_alpha, seed).eval()
        check_used(self.tokens, self._features_of_blank_image)
        return rank

    @torch.no_grad()
    def merge_adapters(self, pixels: Tensor) -> None:
        """Add what the adapters learnt to the backbone's weights, and compare on some images; in eval mode afterwards.

        Args:
            pixels: Float (B, 3, S, S) in [0, 1].

        Raises:
            FinetuneError: The merged classifier is another function.
        """
        with torch.backends.cudnn.flags(allow_tf32=False):
            expected = self.eval()(pixels)
            self.tokens = merge_adapters(self.tokens)
            difference = float((self.eval()(pixels) - expected).norm() / expected.norm())
        if not difference <= MERGE_TOLERANCE:
            raise FinetuneError(
                f"with its adapters merged, the classifier's outputs differ by {difference:.1%}",
                where="lora",
                hint="Use mode full or top:N, and report this as a bug.",
            )

    @torch.no_grad()
    def _features_of_blank_image(self) -> Tensor:
        return self.features(torch.zeros(1, 3, self._image_size, self._image_size, device=self.mean.device))


def plan_stages(classifier: Classifier, options: FinetuneOptions) -> list[Stage]:
    """What is trained, and when, in the mode that the options name; for ``lora`` the adapters have to be there.

    Raises:
        FinetuneError: More blocks are asked for than there are, or more stages than epochs.
    """
    head = _groups("head", classifier.head.parameters(), options.learning_rate, options)
    if options.mode == "head":
        return [Stage("head", options.epochs, head)]
    if options.mode == "lora":
        adapters = _groups("adapters", adapter_parameters(classifier.tokens), options.learning_rate, options)
        return [Stage("lora", options.epochs, [*head, *adapters])]
    if options.mode == "scratch":
        every = _groups("backbone", classifier.tokens.parameters(), options.learning_rate, options)
        return [Stage("all", options.epochs, [*head, *every])]
    first = [Stage("head", options.head_epochs, head)] if options.head_epochs else []
    epochs = options.epochs - options.head_epochs
    layers = _backbone_layers(classifier.tokens, options)
    if options.mode == "full":
        return [*first, _stage("all", epochs, head, layers)]
    n_blocks = len(layers) - 1
    if options.mode == "layerwise":
        return [*first, *_layerwise(head, layers, epochs)]
    if options.n_top > n_blocks:
        raise FinetuneError(
            f"the backbone has {n_blocks} blocks", where=options.mode, hint=f"Use top:1 to top:{n_blocks}, or full."
        )
    return [*first, _stage(options.mode, epochs, head, layers[-options.n_top :])]


def trained_share(classifier: Classifier, stages: Sequence[Stage]) -> float:
    """Share of all parameters that any stage trains."""
    trained = {id(one): one.numel() for stage in stages for one in stage.parameters}
    return sum(trained.values()) / count_parameters(classifier)


def _layerwise(head: list[Group], layers: list[list[Group]], epochs: int) -> list[Stage]:
    """One more block a stage, from the top; the last stage trains what comes before the blocks too."""
    n_blocks = len(layers) - 1
    if epochs < n_blocks:
        raise FinetuneError(
            f"{epochs} epochs for {n_blocks} blocks", where="layerwise", hint="Give an epoch or more for each block."
        )
    shares = [epochs // n_blocks + (stage < epochs % n_blocks) for stage in range(n_blocks)]
    opened = [layers[-stage:] for stage in range(1, n_blocks)] + [layers]
    names = [f"top:{stage}" for stage in range(1, n_blocks)] + ["all"]
    return [_stage(name, share, head, part) for name, share, part in zip(names, shares, opened, strict=True)]


def _stage(name: str, epochs: int, head: list[Group], layers: list[list[Group]]) -> Stage:
    return Stage(name, epochs, [*head, *(group for layer in layers for group in layer)])


def _backbone_layers(tokens: nn.Module, options: FinetuneOptions) -> list[list[Group]]:
    """Groups by depth; each block below the last has a lower rate, where rates decay."""
    whole = options.mode == "full" and options.layer_decay == 1
    layers = [list(tokens.parameters())] if whole else parameter_layers(tokens)
    top = len(layers) - 1
    return [
        _groups("backbone", layer, options.backbone_rate * options.layer_decay ** (top - depth), options)
        for depth, layer in enumerate(layers)
    ]


def _groups(name: str, parameters: Iterable[nn.Parameter], rate: float, options: FinetuneOptions) -> list[Group]:
    """Weights, which decay, and biases and scales of norms, which do not."""
    listed = list(parameters)
    parts = (
        ([one for one in listed if one.ndim > 1], options.weight_decay),
        ([one for one in listed if one.ndim < 2], 0),
    )
    return [Group(name, part, rate, decay) for part, decay in parts if part]
