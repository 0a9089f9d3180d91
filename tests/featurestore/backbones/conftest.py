"""Small backbones, a picture, and a hub that is never asked."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when a hub library is imported: nothing may wait for a network

from collections.abc import Callable
from typing import Any

import pytest
import torch

from featurestore.backbones.base import Backbone
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import TokenFeatures


@pytest.fixture
def images() -> Callable[..., torch.Tensor]:
    """Normalised-looking images, (n, 3, size, size)."""

    def make(n: int = 2, size: int = 96) -> torch.Tensor:
        return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(7))

    return make


@pytest.fixture
def embed() -> Callable[..., TokenFeatures]:
    """Tokens without gradients."""

    def run(backbone: Backbone, batch: torch.Tensor) -> TokenFeatures:
        with torch.inference_mode():
            return backbone.tokens(batch)

    return run


@pytest.fixture(scope="session")
def load() -> Callable[..., Backbone]:
    """Backbones at random weights, each built once."""
    built: dict[tuple[Any, ...], Backbone] = {}

    def get(name: str, image_size: int = 96, weights: str = "random:0") -> Backbone:
        key = name, image_size, weights
        if key not in built:
            built[key] = load_backbone(name, weights=weights, image_size=image_size)
        return built[key]

    return get
