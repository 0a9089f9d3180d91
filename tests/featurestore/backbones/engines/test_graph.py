from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from featurestore.backbones.engines.graph import SMALL_NETWORK, build_graph, is_small


@pytest.mark.parametrize(("weights", "expected"), [(SMALL_NETWORK, True), (SMALL_NETWORK + 1, False)])
def test_a_network_is_small_by_the_number_of_its_weights(weights: int, expected: bool) -> None:
    with torch.device("meta"):
        assert is_small(torch.nn.Linear(weights, 1, bias=False)) is expected


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_efficientnet"])
def test_pixels_are_normalised_pooled_and_named_in_order(name: str, load: Any) -> None:
    """By NumPy: the mean over the grid of tokens of (pixels - mean) / std."""
    backbone = load(name)
    poolings = backbone.spec.poolings[::-1]
    pixels = np.random.default_rng(0).random((2, 3, 96, 96), dtype=np.float32)
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (backbone.spec.mean, backbone.spec.std))
    graph = build_graph(backbone, poolings)
    with torch.inference_mode():
        tokens = backbone.tokens(torch.from_numpy((pixels - mean) / std))
        found = graph(torch.from_numpy(pixels))
    assert len(found) == len(poolings)
    grid = "avgpool" if "avgpool" in poolings else "avg_patch"
    expected = tokens.patches.numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(found[poolings.index(grid)].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_bytes_are_their_share_of_255(load: Any) -> None:
    graph = build_graph(load("timm:test_vit"), ("cls",))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 96, 96), dtype=np.uint8)
    with torch.inference_mode():
        found = graph(torch.from_numpy(pixels))[0]
        expected = graph(torch.from_numpy((pixels / 255).astype(np.float32)))[0]
    torch.testing.assert_close(found, expected)


def test_it_is_frozen(load: Any) -> None:
    graph = build_graph(load("timm:test_vit"), ("cls",))
    assert not graph.training
    assert not any(weight.requires_grad for weight in graph.parameters())


def test_inner_layers_are_heard_by_their_number(load: Any) -> None:
    backbone = load("timm:test_vit")
    seen: list[torch.Tensor] = []
    pixels = torch.rand(1, 3, 96, 96)
    block = next(part for name, part in backbone.tokens.named_modules() if name.endswith("blocks.1"))
    hook = block.register_forward_hook(lambda *given: seen.append(given[2]))
    with torch.inference_mode():
        inner, last = build_graph(backbone, ("cls@2", "cls"))(pixels)
    hook.remove()
    torch.testing.assert_close(inner, seen[0][:, 0])
    assert not torch.allclose(inner, last)
