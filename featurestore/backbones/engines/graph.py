"""The graph that an engine runs: pixels -> normalisation -> tokens -> one tensor for each pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from featurestore.backbones.pooling import pool

if TYPE_CHECKING:
    from torch import nn

    from featurestore.backbones.base import Backbone


SMALL_NETWORK = 8_000_000
"""Weights up to which a network is small."""


def is_small(module: nn.Module) -> bool:
    """Whether the weights of a network can stay in the cache of a processor from one pass to the next."""
    return sum(one.numel() for one in module.parameters()) <= SMALL_NETWORK


def build_graph(backbone: Backbone, poolings: tuple[str, ...]) -> nn.Module:
    """A frozen module from pixels (B, C, H, W), float32 in [0, 1] or uint8, to a float32 tensor for each pooling."""
    import torch
    from torch import Tensor, nn

    class Graph(nn.Module):
        mean: Tensor
        std: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.tokens = _listening(backbone, poolings)
            self.register_buffer("mean", torch.tensor(backbone.spec.mean).reshape(1, -1, 1, 1))
            self.register_buffer("std", torch.tensor(backbone.spec.std).reshape(1, -1, 1, 1))

        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            unit = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
            features = self.tokens((unit - self.mean) / self.std)
            return tuple(pool(features, kind).float() for kind in poolings)

    return Graph().eval().requires_grad_(False)


def _listening(backbone: Backbone, poolings: Sequence[str]) -> nn.Module:
    """The backbone, which also returns the inner layers that the poolings name."""
    layers = sorted({int(layer) for layer in (kind.partition("@")[2] for kind in poolings) if layer})
    if not layers:
        return backbone.tokens
    from featurestore.backbones.layers import LayeredTokens

    return LayeredTokens(backbone.spec, backbone.tokens, layers)
