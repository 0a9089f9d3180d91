"""An inflated input layer, against timm's own ``in_chans``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from featurestore.backbones.catalogue import find_spec
from featurestore.backbones.engines.base import Runtime, compile_forward
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import pool
from featurestore.errors import BackboneError

MODELS = ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"]


def many(n_channels: int, n: int = 2, size: int = 96) -> torch.Tensor:
    return torch.randn(n, n_channels, size, size, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("n_channels", [2, 4, 5, 9])
@pytest.mark.parametrize("model_id", MODELS)
def test_it_is_what_timm_makes_of_the_same_weights(model_id: str, n_channels: int, tmp_path: Path, embed: Any) -> None:
    torch.manual_seed(3)
    weights = timm.create_model(model_id, num_classes=0).state_dict()
    save_file(weights, tmp_path / "model.safetensors")
    overlay = {"state_dict": weights, "num_classes": 0}
    options = {"img_size": 96} if "vit" in model_id else {}
    theirs = timm.create_model(
        model_id, pretrained=True, num_classes=0, in_chans=n_channels, pretrained_cfg_overlay=overlay, **options
    ).eval()
    backbone = load_backbone(f"timm:{model_id}", str(tmp_path), 96, n_channels=n_channels)
    with torch.inference_mode():
        expected = theirs(many(n_channels))
    own = backbone.spec.poolings[0]
    torch.testing.assert_close(pool(embed(backbone, many(n_channels)), own), expected, rtol=1e-4, atol=1e-5)
    assert backbone.weights_hash == load_backbone(f"timm:{model_id}", str(tmp_path), 96).weights_hash


@pytest.mark.parametrize("name", ["msn-s", "timm:naflexvit_base_patch16_radio_v3", "torchvision:resnet18"])
def test_every_library_and_a_linear_input_layer(name: str, load: Any, embed: Any, images: Any) -> None:
    """Six channels that repeat three are these three."""
    backbone = load_backbone(name, "random:0", 96, n_channels=6)
    pooling = backbone.spec.poolings[0]
    twice = torch.cat([images(), images()], dim=1)
    expected = pool(embed(load(name), images()), pooling)
    torch.testing.assert_close(pool(embed(backbone, twice), pooling), expected, rtol=1e-4, atol=1e-5)


def test_one_band_is_no_inflation() -> None:
    with pytest.raises(BackboneError, match=r"two channels or more \[n_channels=1\]. Repeat a single band to three"):
        load_backbone("timm:test_vit", "random:0", 96, n_channels=1)


def test_channels_are_normalised_as_the_colours_they_repeat() -> None:
    spec = find_spec("resnet-18").with_channels(5)
    assert spec.mean == (0.485, 0.456, 0.406, 0.485, 0.456)
    assert spec.std == (0.229, 0.224, 0.225, 0.229, 0.224)
    assert spec.with_channels(3) == find_spec("resnet-18")


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_vit@2"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_engines_take_the_channels(engine: str, name: str, embed: Any) -> None:
    backbone = load_backbone(name, "random:0", 96, n_channels=4)
    forward = compile_forward(backbone, ["cls"], Runtime(engine, "cpu", "fp32"), 2, 96, 1)
    pixels = np.random.default_rng(0).random((2, 4, 96, 96), dtype=np.float32)
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.spec.mean, backbone.spec.std))
    expected = pool(embed(backbone, (torch.from_numpy(pixels) - mean) / std), "cls")
    np.testing.assert_allclose(forward(pixels)["cls"], expected, rtol=0, atol=2e-4)
