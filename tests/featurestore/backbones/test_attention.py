"""Attention maps against matrices computed by hand, and by the libraries themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers

from featurestore.backbones.attention import CLS, PATCHES, attend
from featurestore.backbones.base import Backbone
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import TokenFeatures
from featurestore.errors import BackboneError


@pytest.fixture
def pixels() -> Any:
    def make(n: int = 2, height: int = 96, width: int = 96) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.random.default_rng(3).random((n, 3, height, width), dtype=np.float32)

    return make


def normalise(backbone: Backbone, values: Any) -> torch.Tensor:
    mean, std = (torch.tensor(one).reshape(1, -1, 1, 1) for one in (backbone.spec.mean, backbone.spec.std))
    return (torch.from_numpy(values) - mean) / std


def matrices_by_hand(model: Any, images: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt d) of every block of a plain timm transformer, (blocks, B, heads, tokens, tokens)."""
    found = []

    def compute(module: Any, given: Any) -> None:
        (x,) = given
        b, n, _ = x.shape
        qkv = module.qkv(x).reshape(b, n, 3, module.num_heads, module.head_dim).permute(2, 0, 3, 1, 4)
        query, key = module.q_norm(qkv[0]), module.k_norm(qkv[1])
        found.append((query @ key.transpose(-1, -2) / module.head_dim**0.5).softmax(dim=-1))

    hooks = [block.attn.register_forward_pre_hook(compute) for block in model.blocks]
    with torch.inference_mode():
        model.forward_features(images)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)


def roll_out(matrices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Abnar & Zuidema of (blocks, heads, tokens, tokens), written as they do."""
    joint = np.eye(matrices.shape[-1])
    for matrix in matrices.astype(np.float64):
        joint = (0.5 * matrix.mean(axis=0) + 0.5 * np.eye(len(joint))) @ joint
    return joint


@pytest.mark.parametrize("model_id", ["test_vit", "test_vit2", "vit_small_patch14_reg4_dinov2"])
def test_maps_are_rows_of_softmax(model_id: str, load: Any, pixels: Any) -> None:
    backbone = load(f"timm:{model_id}", 84 if "patch14" in model_id else 96)
    side = 84 if "patch14" in model_id else 96
    values = pixels(2, side, side)
    model: Any = backbone.tokens.model
    matrices = matrices_by_hand(model, normalise(backbone, values)).numpy()
    n_prefix = model.num_prefix_tokens
    np.testing.assert_allclose(matrices.sum(axis=-1), 1, rtol=1e-5)
    maps = attend(backbone, values)
    grid = (6, 6)
    if "cls" in backbone.spec.poolings:
        assert maps.query == CLS
        expected = matrices[:, :, :, 0, n_prefix:]
        flow = [roll_out(matrices[:, image])[0, n_prefix:] for image in range(2)]
        shares = matrices[:, :, :, 0, :n_prefix].sum(axis=-1)
    else:
        assert maps.query == PATCHES
        expected = matrices[:, :, :, n_prefix:, n_prefix:].mean(axis=3)
        flow = [roll_out(matrices[:, image])[n_prefix:, n_prefix:].mean(axis=0) for image in range(2)]
        shares = matrices[:, :, :, n_prefix:, :n_prefix].sum(axis=-1).mean(axis=-1)
    expected = expected.swapaxes(0, 1)
    np.testing.assert_allclose(maps.blocks, expected.reshape(*expected.shape[:-1], *grid), atol=1e-6, rtol=1e-4)
    np.testing.assert_allclose(maps.blocks.sum(axis=(-1, -2)) + shares.swapaxes(0, 1), 1, rtol=1e-5)
    np.testing.assert_allclose(maps.rollout, np.reshape(flow, (2, *grid)), atol=1e-6, rtol=1e-4)
    assert maps.pooled.shape == (2, 0, *grid)


def test_the_latent_query_of_a_map_head(load: Any, pixels: Any) -> None:
    backbone, values = load("siglip-b"), pixels(1)
    model: Any = backbone.tokens.model
    images, pool = normalise(backbone, values), model.attn_pool
    with torch.inference_mode():
        tokens = model.forward_features(images)
        query = pool.q(pool.latent).reshape(1, 1, pool.num_heads, pool.head_dim).transpose(1, 2)
        keys = pool.kv(tokens).reshape(1, 36, 2, pool.num_heads, pool.head_dim)[:, :, 0].transpose(1, 2)
        expected = (query @ keys.transpose(-1, -2) / pool.head_dim**0.5).softmax(dim=-1)[0, :, 0].numpy()
    maps = attend(backbone, values)
    assert maps.query == PATCHES, "SigLIP has no class token"
    assert maps.blocks.shape == (1, 12, 12, 6, 6)
    np.testing.assert_allclose(maps.pooled[0].reshape(12, 36), expected, atol=1e-7, rtol=1e-4)
    np.testing.assert_allclose(maps.pooled.sum(axis=(-1, -2)), 1, rtol=1e-5)
    flow = expected.mean(axis=0) @ roll_out(matrices_by_hand(model, images).numpy()[:, 0])
    np.testing.assert_allclose(maps.rollout.ravel(), flow, atol=1e-7, rtol=1e-4)


def test_maps_are_those_that_transformers_returns(load: Any, pixels: Any) -> None:
    backbone, values = load("msn-s"), pixels(1)
    config = transformers.ViTMSNConfig(**backbone.tokens.model.config.to_dict())
    model = transformers.ViTMSNModel._from_config(config, attn_implementation="eager").eval()
    model.load_state_dict(backbone.tokens.model.state_dict())
    with torch.inference_mode():
        given = {"output_attentions": True, "interpolate_pos_encoding": True}
        attentions = torch.stack(model(normalise(backbone, values), **given).attentions)[:, 0].numpy()
    maps = attend(backbone, values)
    np.testing.assert_allclose(maps.blocks[0].reshape(12, 6, 36), attentions[:, :, 0, 1:], atol=1e-6, rtol=1e-4)
    np.testing.assert_allclose(maps.rollout.ravel(), roll_out(attentions)[0, 1:], atol=1e-6, rtol=1e-4)


def test_torchs_own_layer_is_listened_to(pixels: Any) -> None:
    """The tower of open_clip uses ``torch.nn.MultiheadAttention``."""
    backbone = load_backbone("open_clip:ViT-B-32/openai", "random:0", 96)
    values, block = pixels(1), backbone.tokens.visual.transformer.resblocks[0]
    seen: list[torch.Tensor] = []
    hook = block.ln_1.register_forward_hook(lambda _module, _given, output: seen.append(output))
    maps = attend(backbone, values)
    hook.remove()
    with torch.inference_mode():
        (first, *_) = seen
        matrix = block.attn(first, first, first, need_weights=True, average_attn_weights=False)[1]
    assert maps.query == CLS
    np.testing.assert_allclose(maps.blocks[0, 0].reshape(12, 9), matrix[0, :, 0, 1:].numpy(), atol=1e-6, rtol=1e-4)


def test_features_do_not_change(load: Any, images: Any, pixels: Any, embed: Any) -> None:
    backbone = load("timm:test_vit")
    before = embed(backbone, images())
    seen: list[TokenFeatures] = []
    hook = backbone.tokens.register_forward_hook(lambda _module, _given, output: seen.append(output))
    attend(backbone, pixels(1))
    hook.remove()
    assert torch.equal(seen[0].patches, seen[1].patches), "the first pass is not listened to"
    assert torch.equal(before.patches, embed(backbone, images()).patches)


def test_an_image_has_the_same_maps_in_any_company(load: Any, pixels: Any) -> None:
    values = pixels(2)
    together, alone = attend(load("timm:test_vit"), values), attend(load("timm:test_vit"), values[1:])
    np.testing.assert_array_equal(together.blocks[1:], alone.blocks)
    np.testing.assert_array_equal(together.rollout[1:], alone.rollout)


def test_inner_layers_end_the_maps(load: Any, pixels: Any) -> None:
    whole, inner = attend(load("timm:test_vit"), pixels()), attend(load("timm:test_vit@2"), pixels())
    np.testing.assert_array_equal(inner.blocks, whole.blocks[:, :2])
    assert not np.array_equal(inner.rollout, whole.rollout)
    assert attend(load("siglip-b@3"), pixels(1)).pooled.shape == (1, 0, 6, 6)


def test_the_grid_of_an_image_that_is_not_square(pixels: Any) -> None:
    model = timm.create_model("test_vit", num_classes=0, img_size=(64, 96)).eval()

    class Tokens(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> TokenFeatures:
            tokens = model.forward_features(images)
            return TokenFeatures(tokens[:, 1:].unflatten(1, (4, 6)), cls=tokens[:, 0])

    spec = load_backbone("timm:test_vit", "random:0", 96).spec
    backbone: Any = Backbone(spec, Tokens(), "0" * 64, "random:0")
    values = pixels(1, 64, 96)
    matrices = matrices_by_hand(model, normalise(backbone, values)).numpy()
    maps = attend(backbone, values)
    assert maps.rollout.shape == (1, 4, 6)
    np.testing.assert_allclose(maps.blocks[0, -1, 0], matrices[-1, 0, 0, 0, 1:].reshape(4, 6), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("model_id", ["test_resnet", "test_convnext"])
def test_a_cnn_has_nothing_to_show(model_id: str, load: Any, pixels: Any) -> None:
    with pytest.raises(BackboneError, match=rf"timm:{model_id} has no attention to show.*Use a plain vision"):
        attend(load(f"timm:{model_id}"), pixels(1))


def test_masks_and_scales_count(load: Any, pixels: Any) -> None:
    """As of a relative position bias, which BEiT hands over as a mask."""
    rng = torch.Generator().manual_seed(2)
    query, key = torch.randn(2, 1, 2, 37, 8, generator=rng)
    bias = torch.randn(1, 2, 37, 37, generator=rng)

    class Biased(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> TokenFeatures:
            torch.nn.functional.scaled_dot_product_attention(query, key, value=key, attn_mask=bias, scale=0.7)
            return TokenFeatures(torch.zeros(1, 6, 6, 8), cls=torch.zeros(1, 8))

    expected = (0.7 * query @ key.transpose(-1, -2) + bias).softmax(dim=-1)[0, :, 0, 1:]
    maps = attend(replace(load("timm:test_vit"), tokens=Biased()), pixels(1))
    np.testing.assert_allclose(maps.blocks[0, 0].reshape(2, 36), expected.numpy(), atol=1e-6, rtol=1e-4)


def test_attention_within_windows_is_refused(load: Any, pixels: Any) -> None:
    backbone = load("timm:test_vit")

    class Windows(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> TokenFeatures:
            tokens = torch.zeros(4, 2, 9, 8)
            torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
            return TokenFeatures(torch.zeros(1, 6, 6, 8))

    with pytest.raises(BackboneError, match="does not go over all patches"):
        attend(replace(backbone, tokens=Windows()), pixels(1))


def test_a_model_with_attention_of_its_own_is_refused(load: Any, pixels: Any, monkeypatch: Any) -> None:
    backbone = load_backbone("timm:test_vit", "random:0", 96)
    for block in backbone.tokens.model.blocks:
        monkeypatch.setattr(block.attn, "fused_attn", False)
    with pytest.raises(BackboneError, match="own attention is not used"):
        attend(backbone, pixels(1))
