from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers

from featurestore.backbones.catalogue import find_spec
from featurestore.backbones.engines.base import Runtime, compile_forward
from featurestore.backbones.layers import LayeredTokens, find_blocks
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import TokenFeatures, pool
from featurestore.errors import BackboneError, PoolingError, UnknownNameError

TRANSFORMERS = ["test_vit", "test_vit2", "vit_small_patch14_reg4_dinov2", "naflexvit_base_patch16_radio_v3",
                "test_vit3", "vit_small_patch16_dinov3", "vit_pe_spatial_tiny_patch16_512"]  # fmt: skip
MAPS = {"test_resnet": 1, "test_convnext": 0, "test_efficientnet": None}
"""CNN -> timm's number of its first stage; None where timm numbers its maps otherwise."""


def listened(name: str, size: int, layers: list[int], load: Any) -> LayeredTokens:
    return LayeredTokens(find_spec(name), load(name, size).tokens, layers).eval()


def run(module: Any, images: torch.Tensor) -> TokenFeatures:
    with torch.inference_mode():
        features: TokenFeatures = module(images)
    return features


@pytest.mark.parametrize("model_id", TRANSFORMERS)
def test_layers_are_timms_intermediates(model_id: str, load: Any, images: Any) -> None:
    spec = find_spec(f"timm:{model_id}")
    size = 6 * (spec.patch_size or 16)
    features = run(listened(spec.name, size, [1, 3], load), images(size=size))
    torch.manual_seed(0)
    model = timm.create_model(model_id, pretrained=False, num_classes=0, img_size=size).eval()
    with torch.inference_mode():
        options = {"output_fmt": "NLC", "return_prefix_tokens": model.num_prefix_tokens > 0}
        final, expected = model.forward_intermediates(images(size=size), indices=[0, 2], **options)
    assert set(features.layers) == {"1", "3"}
    for layer, tokens in zip(("1", "3"), expected, strict=True):
        patches, prefix = tokens if model.num_prefix_tokens else (tokens, None)
        inner = features.layers[layer]
        assert torch.equal(inner.patches.flatten(1, 2), patches)
        assert torch.equal(pool(features, f"avg_patch@{layer}"), inner.patches.mean(dim=(1, 2)))
        assert ("cls" in spec.poolings) <= (prefix is not None)
        if "cls" in spec.poolings and prefix is not None:
            assert torch.equal(pool(features, f"cls@{layer}"), prefix[:, 0])
    assert torch.equal(features.patches.flatten(1, 2), final[:, model.num_prefix_tokens :])


@pytest.mark.parametrize("model_id", MAPS)
def test_layers_of_a_cnn_are_its_stages(model_id: str, load: Any, images: Any) -> None:
    n_stages = len(find_blocks(load(f"timm:{model_id}").tokens))
    features = run(listened(f"timm:{model_id}", 96, list(range(1, n_stages + 1)), load), images())
    torch.manual_seed(0)
    model = timm.create_model(model_id, pretrained=False, num_classes=0).eval()
    with torch.inference_mode():
        maps = model.forward_intermediates(images(), intermediates_only=True)
    inner = [features.layers[str(layer)].patches.permute(0, 3, 1, 2) for layer in range(1, n_stages + 1)]
    first = MAPS[model_id]
    if first is None:
        assert all(any(torch.equal(one, other) for one in inner) for other in maps)
    else:
        assert all(torch.equal(one, other) for one, other in zip(inner, maps[first:], strict=True))
    assert torch.equal(pool(features, "avgpool@1"), inner[0].mean(dim=(2, 3)))


def test_layers_of_transformers_are_its_hidden_states(load: Any, images: Any) -> None:
    features = run(listened("msn-s", 96, [4, 11], load), images())
    torch.manual_seed(0)
    model = transformers.ViTMSNModel(load("msn-s", 96).tokens.model.config).eval()
    model.load_state_dict(load("msn-s", 96).tokens.model.state_dict())
    with torch.inference_mode():
        states = model(images(), output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
    for layer in (4, 11):
        assert torch.equal(pool(features, f"cls@{layer}"), states[layer][:, 0])
        assert torch.equal(features.layers[str(layer)].patches.flatten(1, 2), states[layer][:, 1:])


def test_a_channels_last_map_keeps_its_order(images: Any) -> None:
    name = "timm:swin_tiny_patch4_window7_224"
    tokens = load_backbone(name, "random:0", 224).tokens
    features = run(LayeredTokens(find_spec(name), tokens, [1, 4]).eval(), images(1, 224))
    assert features.layers["1"].patches.shape == (1, 56, 56, 96)
    assert features.layers["4"].patches.shape == (1, 7, 7, 768)


def test_a_backbone_that_ends_at_a_layer(load: Any, images: Any) -> None:
    backbone = load("timm:test_vit@2")
    assert (backbone.spec.name, backbone.spec.base, backbone.spec.layer) == ("timm:test_vit@2", "timm:test_vit", 2)
    assert backbone.weights_hash == load("timm:test_vit").weights_hash
    whole = run(listened("timm:test_vit", 96, [2], load), images())
    inner = run(backbone.tokens, images())
    for kind in backbone.spec.poolings:
        assert torch.equal(pool(inner, kind), pool(whole, f"{kind}@2"))


def test_workers_do_not_mix_their_layers(load: Any) -> None:
    forward = compile_forward(load("timm:test_vit"), ["cls@2", "cls@5"], Runtime("torch", "cpu", "fp32"), 1, 96, 4)
    batches = list(np.random.default_rng(0).random((24, 1, 3, 96, 96), dtype=np.float32))
    expected = [forward(pixels) for pixels in batches]
    with ThreadPoolExecutor(4) as workers:
        found = list(workers.map(forward, batches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one["cls@2"], other["cls@2"])
        np.testing.assert_array_equal(one["cls@5"], other["cls@5"])


def test_a_copy_listens_to_its_own_blocks(images: Any) -> None:
    """Training copies models; the copy must see its own weights."""
    tokens = load_backbone("timm:test_vit@2", "random:0", 96).tokens
    twin = deepcopy(tokens)
    expected = run(tokens, images()).patches
    assert torch.equal(run(twin, images()).patches, expected)
    with torch.no_grad():
        for parameter in tokens.parameters():
            parameter.zero_()
    assert torch.equal(run(twin, images()).patches, expected)


def test_an_inner_layer_has_no_pooling_that_needs_the_last() -> None:
    assert find_spec("siglip-b@6").poolings == ("avg_patch",)
    assert find_spec("radio-v3-b@6").poolings == ("cls", "avg_patch", "cls_avg_patch")
    assert find_spec("resnet-18@2").poolings == ("avgpool",)


@pytest.mark.parametrize("layer", [0, 7])
def test_a_layer_that_is_not_there(layer: int) -> None:
    message = (
        rf"has 6 layers, and no layer {layer}.*\[timm:test_vit@{layer}\].*Write timm:test_vit@K with K from 1 to 6"
    )
    with pytest.raises(BackboneError, match=message):
        load_backbone(f"timm:test_vit@{layer}", "random:0", 96)


def test_names_with_a_mark_of_their_own() -> None:
    with pytest.raises(UnknownNameError, match="unknown backbone 'dinov2-b@last'"):
        find_spec("dinov2-b@last")
    with pytest.raises(UnknownNameError, match="unknown backbone 'dinov9'"):
        find_spec("dinov9@3")


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_one_pass_gives_several_layers(engine: str, load: Any, images: Any) -> None:
    backbone = load("timm:test_vit")
    calls: list[int] = []
    listener = backbone.tokens.model.patch_embed.register_forward_hook(lambda *_: calls.append(1))
    names = ["cls", "avg_patch", "cls@2", "avg_patch@5", "patches@5"]
    forward = compile_forward(backbone, names, Runtime(engine, "cpu", "fp32"), 2, 96, 1)
    assert forward.shapes == {"cls": (64,), "avg_patch": (64,), "cls@2": (64,), "avg_patch@5": (64,),
                              "patches@5": (6, 6, 64)}  # fmt: skip
    pixels = np.random.default_rng(0).random((2, 3, 96, 96), dtype=np.float32)
    before = len(calls)
    found = forward(pixels)
    assert len(calls) - before == (1 if engine == "torch" else 0), "OpenVINO runs its own copy"
    listener.remove()
    for layer in (2, 5):
        alone = compile_forward(load(f"timm:test_vit@{layer}"), ["cls", "avg_patch", "patches"],
                                Runtime("torch", "cpu", "fp32"), 2, 96, 1)(pixels)  # fmt: skip
        for name in names:
            kind, _, at = name.partition("@")
            if at == str(layer):
                np.testing.assert_allclose(found[name], alone[kind], rtol=0, atol=2e-4)


def test_an_inner_pooling_that_is_not_offered(load: Any) -> None:
    with pytest.raises(PoolingError, match="does not offer the pooling 'map'"):
        compile_forward(load("timm:test_vit"), ["map@2"], Runtime("torch", "cpu", "fp32"), 1, 96, 1)
