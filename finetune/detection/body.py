"""Body: a loaded backbone as a source of feature maps, frozen or trained."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from featurestore.backbones.base import Backbone
from featurestore.backbones.loading import load_backbone
from featurestore.errors import BackboneError
from featurestore.registry import unknown_name
from finetune.detection.pyramid import Shapes
from finetune.freezing import hold_statistics

MODES = ("frozen", "tuned", "scratch")
"""frozen: the backbone never changes; tuned: it is trained on, with fixed batch statistics; scratch: random weights,
everything trained."""

_STAGES = {f"layer{number + 1}": str(number) for number in range(4)}
"""Stages of torchvision's ResNets -> names of maps."""


class Body(nn.Module):
    """Normalises pixels as the backbone's weights need them, and returns its feature maps.

    A vision transformer gives its last patch grid, after its last norm, under the name ``last``; a CNN gives its last
    four stages under ``0`` ... ``3``. A frozen body stays in eval mode and makes no graph; a tuned one keeps its
    batch-norm layers in eval mode, as is usual where a batch holds few images.

    Args:
        backbone: A loaded backbone. Its model is used in place.
        mode: ``frozen``, ``tuned`` or ``scratch``.

    Raises:
        BackboneError: A CNN whose stages cannot be reached.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.register_buffer("mean", torch.tensor(backbone.spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.spec.std).view(3, 1, 1), persistent=False)
        self.body = _body(backbone).requires_grad_(mode != "frozen")

    def train(self, mode: bool = True) -> Body:
        """Training mode for what is trained, eval mode for what is fixed."""
        super().train(mode and self.mode != "frozen")
        if self.mode == "tuned":
            hold_statistics(self)
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps by name, float (B, C, h, w) each, of images float (B, 3, S, S) in [0, 1]."""
        with torch.no_grad() if self.mode == "frozen" else nullcontext():
            maps: Any = self.body((images - self.mean) / self.std)
        return dict(maps) if isinstance(maps, Mapping) else {str(number): one for number, one in enumerate(maps)}


def load_body(name: str, mode: str, side: int, *, weights: str | None = None, seed: int = 0) -> Body:
    """A backbone by name as a body for images of `side` pixels.

    Args:
        name: A name of the catalogue, or ``ADAPTER:MODEL_ID``.
        mode: ``frozen``, ``tuned`` or ``scratch``.
        side: Side of the square input in pixels.
        weights: Source of the weights; the catalogue's for None. ``scratch`` takes none.
        seed: Seed of the random weights of ``scratch``.

    Raises:
        UnknownNameError: No such mode.
        SkyprobeError: See `featurestore.backbones.loading.load_backbone` and `Body`.
    """
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    return Body(load_backbone(name, f"random:{seed}" if mode == "scratch" else weights, side), mode)


def shapes_of(body: nn.Module, side: int) -> Shapes:
    """Channels, height and width of each map that a body makes of images of `side` pixels."""
    was_training = body.training
    with torch.no_grad():
        maps = body.eval()(torch.zeros(1, 3, side, side))
    body.train(was_training)
    return {name: tuple(one.shape[1:]) for name, one in maps.items()}


class _LastGrid(nn.Module):
    """The patch grid of a vision transformer of any adapter as a map, channels first."""

    def __init__(self, tokens: nn.Module) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"last": self.tokens(images).grid.permute(0, 3, 1, 2)}


class _LastStages(nn.Module):
    """The last four maps that a timm model counts among its features; the model loses what comes after them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        # Layers that no map depends on would never get a gradient.
        self.indices = model.prune_intermediate_layers(4, prune_norm=True)
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(images, indices=self.indices, intermediates_only=True)
        return maps


def _body(backbone: Backbone) -> nn.Module:
    tokens: Any = backbone.tokens
    if backbone.spec.patch_size is not None:
        return _LastGrid(tokens)
    if hasattr(getattr(tokens, "model", None), "forward_intermediates"):
        return _LastStages(tokens.model)
    if all(hasattr(getattr(tokens, "trunk", None), stage) for stage in _STAGES):
        extractor: nn.Module = create_feature_extractor(tokens.trunk, _STAGES)
        return extractor
    raise BackboneError(
        "the stages of this network cannot be reached",
        where=backbone.spec.name,
        hint="Use its twin in timm, a ResNet, or a vision transformer.",
    )
