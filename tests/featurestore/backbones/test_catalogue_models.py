"""Every entry of the catalogue without its weights: at its real architecture on the meta device, where tensors have
shapes and no values, and as a small network of the same class, with values."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, cast

import open_clip
import pytest
import timm
import torch
import transformers
from safetensors.torch import save_file

from featurestore.backbones.adapters import transformers as transformers_adapter
from featurestore.backbones.base import Backbone, BackboneSpec
from featurestore.backbones.catalogue import ADAPTERS, CATALOGUE
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import TokenFeatures, pool
from featurestore.backbones.weights import WeightsSource
from featurestore.errors import BackboneError

N_REGISTERS = {"dinov2-s-reg": 4, "dinov2-b-reg": 4, "dinov2-l-reg": 4, "dinov2-g-reg": 4, "dinov3-s": 4,
               "dinov3-b": 4, "dinov3-l": 4, "dinov3-h": 4, "radio-v3-b": 7, "radio-v3-l": 7, "radio-v3-h": 7,
               "radio-v4-so": 9}  # fmt: skip
WIDTHS = {"mae-b": 768, "msn-b": 768, "dinov2-s": 384, "dinov2-b": 768, "dinov2-l": 1024, "dinov2-g": 1536,
          "dinov2-s-reg": 384, "dinov2-b-reg": 768, "dinov2-l-reg": 1024, "dinov2-g-reg": 1536, "dino-b": 768,
          "siglip-b": 768, "radio-b": 768, "radio-l": 1024, "radio-h": 1280, "vit-b-random": 768, "resnet-18": 512,
          "resnet-50": 2048, "resnet-101": 2048, "resnet-152": 2048, "resnet-50-random": 2048}  # fmt: skip
"""Of the study's models, as their authors publish them."""
SUMMARIES = {"radio-b": 2304, "radio-l": 3072, "radio-h": 3840, "radio-v3-b": 2304, "radio-v3-l": 3072,
             "radio-v3-h": 3840, "radio-v4-so": 2304, "radio-v4-h": 2560}  # fmt: skip
"""Three teachers join their class tokens in v2.5 and v3, two in v4."""

TRANSFORMER = {"embed_dim": 64, "depth": 2, "num_heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "convnext": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
    "resnet": {"layers": (1, 1, 1, 1)},
    "tf_efficientnet": {},
    "vit_giant": TRANSFORMER | {"mlp_ratio": 4},
}
BY_TIMM = [name for name, spec in CATALOGUE.items() if spec.adapter == "timm"]
BY_TRANSFORMERS = [name for name, spec in CATALOGUE.items() if spec.adapter == "transformers"]
INTERPOLATED = ["vit-b-random", "mae-b", "dinov2-b", "dinov2-b-reg", "siglip-b", "clip-b-openai"]


def scaled(model_id: str) -> dict[str, Any]:
    """Options that make a timm model of that name small."""
    return next((options for start, options in SMALL.items() if model_id.startswith(start)), TRANSFORMER)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries build every model with little depth and width."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **scaled(name) | options))
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    for model_id, architecture in transformers_adapter.ARCHITECTURES.items():
        config: Any = cast("Any", architecture)()
        config.update(sizes | ({"intermediate_size": 128} if "intermediate_size" in config.to_dict() else {}))
        monkeypatch.setitem(transformers_adapter.ARCHITECTURES, model_id, partial(copy, config))


def tokens_of(backbone: Backbone, images: torch.Tensor) -> TokenFeatures:
    with torch.inference_mode():
        return backbone.tokens(images)


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    create = open_clip.create_model
    monkeypatch.setattr(open_clip, "create_model", lambda *names, **options: create(*names, device="meta", **options))
    with torch.device("meta"):
        yield


def build_and_run(spec: BackboneSpec) -> tuple[Any, TokenFeatures]:
    module = ADAPTERS.get(spec.adapter).build(spec, WeightsSource("random", "0"), spec.image_size, False).eval()
    return module, module(torch.zeros(1, 3, spec.image_size, spec.image_size))


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize("name", CATALOGUE)
def test_the_real_architecture(name: str) -> None:
    spec = CATALOGUE[name]
    module, features = build_and_run(spec)
    side = -(-spec.image_size // (spec.patch_size or 32))
    assert features.patches.shape[:3] == (1, side, side)
    width = features.patches.shape[3]
    assert width == WIDTHS.get(name, width)
    assert (0 if features.registers is None else features.registers.shape[1]) == N_REGISTERS.get(name, 0)
    assert (features.cls is not None) == ("cls" in spec.poolings)
    expected = dict.fromkeys(spec.poolings, width) | {"cls_avg_patch": 2 * width, "summary": SUMMARIES.get(name)}
    assert {kind: pool(features, kind).shape for kind in spec.poolings} == {
        kind: (1, expected[kind]) for kind in spec.poolings
    }
    if spec.adapter != "open_clip":
        millions = sum(parameter.numel() for parameter in module.parameters()) / 1e6
        assert millions == pytest.approx(spec.params, abs=0.06)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", BY_TIMM)
def test_a_small_one_gives_the_features_of_timm(name: str, images: Any) -> None:
    spec = CATALOGUE[name]
    side = 4 * (spec.patch_size or 16)
    batch = images(size=side)
    features = tokens_of(load_backbone(name, "random:0", side), batch)
    torch.manual_seed(0)
    options = {"img_size": side} if spec.patch_size else {}
    model = timm.create_model(spec.model_id.partition(".")[0], pretrained=False, num_classes=0, **options).eval()
    with torch.inference_mode():
        expected, tokens = model(batch), model.forward_features(batch)
    own = "cls" if "summary" in spec.poolings else spec.poolings[0]
    assert torch.equal(pool(features, own), expected)
    if spec.patch_size:
        assert torch.equal(features.patches.flatten(1, 2), tokens[:, -16:])
    if "cls" in spec.poolings:
        assert torch.equal(pool(features, "cls"), tokens[:, 0])
        both = torch.cat([tokens[:, 0], pool(features, "avg_patch")], dim=1)
        assert torch.equal(pool(features, "cls_avg_patch"), both)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", BY_TRANSFORMERS)
def test_a_small_one_gives_the_features_of_transformers(name: str, images: Any) -> None:
    spec = CATALOGUE[name]
    backbone = load_backbone(name, "random:0", 64)
    features = tokens_of(backbone, images(size=64))
    config = transformers_adapter.ARCHITECTURES[spec.model_id]()
    torch.manual_seed(0)
    model = transformers.MODEL_MAPPING[type(config)](config).eval()
    options = {"interpolate_pos_encoding": True} if "msn" in name else {}
    with torch.inference_mode():
        output = model(images(size=64), **options)
    tokens = output.last_hidden_state
    assert torch.equal(features.patches.flatten(1, 2), tokens[:, -16:])
    if "summary" in spec.poolings:
        assert torch.equal(pool(features, "summary"), output.summary)
    else:
        assert torch.equal(pool(features, "cls"), tokens[:, 0])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", INTERPOLATED)
def test_positions_are_interpolated(name: str, tmp_path: Path, images: Any) -> None:
    """Weights of one size, opened at another: as timm does when the size changes from image to image."""
    spec = CATALOGUE[name]
    patch = spec.patch_size or 1
    options = {"pretrained": False, "num_classes": 0, "img_size": spec.image_size}
    model = timm.create_model(spec.model_id, dynamic_img_size=True, **options).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for n_patches in (5, 20):
        batch = images(1, n_patches * patch)
        features = tokens_of(load_backbone(name, str(tmp_path), n_patches * patch), batch)
        with torch.inference_mode():
            tokens = model.forward_features(batch)
        torch.testing.assert_close(features.patches.flatten(1, 2), tokens[:, -(n_patches**2) :], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, spec in CATALOGUE.items() if spec.patch_size])
def test_a_size_that_the_patch_does_not_divide_is_refused(name: str) -> None:
    patch = CATALOGUE[name].patch_size or 1
    size = 10 * patch + 1
    message = rf"{name} takes sides that are multiples of {patch} px, not {size} px.*Use resize={10 * patch} or resize="
    with pytest.raises(BackboneError, match=message):
        load_backbone(name, "random:0", size)


@pytest.mark.usefixtures("small")
def test_mae_sees_all_196_patches_every_time(images: Any) -> None:
    """No mask and no chance: the class token and the mean of all patches answer to a change in any patch."""
    backbone, batch = load_backbone("mae-b", "random:0"), images(1, 224)
    first, again = tokens_of(backbone, batch), tokens_of(backbone, batch)
    assert first.patches.shape == (1, 14, 14, 64)
    assert torch.equal(first.patches, again.patches)
    assert first.cls is not None
    assert again.cls is not None
    assert torch.equal(first.cls, again.cls)
    for row, column in ((0, 0), (7, 3), (13, 13)):
        changed = batch.clone()
        changed[..., 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 5.0
        moved = tokens_of(backbone, changed)
        assert moved.cls is not None
        assert not torch.equal(moved.cls, first.cls)


@pytest.mark.parametrize("name", ["vit-b-random", "resnet-50-random"])
@pytest.mark.usefixtures("small")
def test_a_random_network_needs_nothing_and_repeats(name: str) -> None:
    first, again, other = load_backbone(name), load_backbone(name), load_backbone(name, "random:1")
    assert first.weights_source == "random:0"
    assert first.weights_hash == again.weights_hash != other.weights_hash
