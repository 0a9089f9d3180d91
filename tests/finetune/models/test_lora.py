from __future__ import annotations

import re

import pytest
import timm
import torch
from torch import nn

from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import pool
from featurestore.errors import FinetuneError, MissingDependencyError
from finetune.freezing import count_parameters, train_only
from finetune.models import lora
from finetune.models.lora import (
    adapter_parameters,
    add_adapters,
    check_used,
    choose_rank,
    find_targets,
    merge_adapters,
)

MODELS = ["timm:test_vit", "timm:test_resnet", "timm:test_efficientnet", "timm:test_convnext", "timm:dla46_c"]
"""The last has a part called base_layer, as peft calls what it wraps, and the one before linear layers in a CNN."""


@pytest.fixture(params=MODELS)
def tokens(request):
    return load_backbone(request.param, "random:0", 64).tokens


def features(tokens, images):
    with torch.no_grad():
        return tokens(images).patches


def teach(adapted):
    """Adapters as if they had learnt something: they start as zero."""
    with torch.no_grad():
        for parameter in adapter_parameters(adapted):
            parameter.add_(0.05 * torch.randn(parameter.shape))


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("vit_base_patch16_224", r"blocks\.\d+\.attn\.qkv"),
        ("eva02_tiny_patch14_224", r"blocks\.\d+\.attn\.qkv"),
        ("resnet50", r"layer\d\.\d+\.(conv[123]|downsample\.0)"),
        ("tf_efficientnet_b0", r"blocks\.\d\.\d\.(conv_pwl?|se\.conv_(reduce|expand))"),
        ("convnext_tiny", r"stages\.\d\.(downsample\.1|blocks\.\d\.mlp\.fc[12])"),
    ],
)
def test_targets_are_found_by_structure(name, pattern):
    with torch.device("meta"):
        targets = find_targets(timm.create_model(name, num_classes=0))
    assert targets
    assert [target for target in targets if not re.fullmatch(pattern, target)] == []


@pytest.mark.parametrize(
    "name", ["vit_base_patch16_224", "vit_small_patch14_dinov2", "resnet50", "tf_efficientnet_lite0"]
)
def test_less_than_five_percent_are_trained(name):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
        n_all, n_head = count_parameters(model), 4 * model.num_features
        rank = choose_rank(find_targets(model), n_head, n_all + n_head, 8, 0.05)
        adapters = sum(one.numel() for one in adapter_parameters(add_adapters(model, rank, 16.0, 0)))
    assert (adapters + n_head) / (n_all + n_head + adapters) < 0.05
    assert rank >= 4


def test_a_backbone_too_small_for_the_share_is_an_error():
    with pytest.raises(FinetuneError, match="adapters of rank 1 train 5% of the parameters or more"):
        choose_rank({"a": nn.Linear(4, 4)}, 0, 20, 8, 0.05)


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(6, 4, 3)])
def test_the_parameters_of_an_adapter_are_predicted(layer):
    module = nn.Sequential(nn.Sequential(layer), nn.Sequential(nn.BatchNorm1d(1)))
    found = sum(one.numel() for one in adapter_parameters(add_adapters(module, 3, 3.0, 0)))
    assert found == 3 * lora._parameters_per_rank(layer)


def test_adapters_start_without_effect(tokens):
    images = torch.rand(2, 3, 64, 64)
    before = features(tokens, images)
    torch.testing.assert_close(features(add_adapters(tokens, 2, 4.0, 0).eval(), images), before)


def test_merged_weights_are_the_same_function(tokens):
    images = torch.rand(2, 3, 64, 64)
    names, before = list(tokens.state_dict()), features(tokens, images)
    adapted = add_adapters(tokens, 2, 4.0, 0).eval()
    teach(adapted)
    expected = features(adapted, images)
    merged = merge_adapters(adapted)
    assert not torch.allclose(expected, before, atol=1e-3)
    torch.testing.assert_close(features(merged, images), expected, atol=1e-4, rtol=1e-4)
    assert list(merged.state_dict()) == names
    assert pool(merged(images), "avg_patch").shape[0] == 2


def test_adapters_alone_give_back_the_function_exactly():
    """Frozen batch normalisation keeps its statistics, which adapters do not hold."""

    def make():
        tokens = load_backbone("timm:test_resnet", "random:0", 64).tokens
        adapted = add_adapters(tokens, 2, 4.0, 0).requires_grad_(False)
        for parameter in adapter_parameters(adapted):
            parameter.requires_grad_(True)
        return adapted

    images, first = torch.rand(4, 3, 64, 64), make()
    train_only(first)
    optimiser = torch.optim.SGD(adapter_parameters(first), lr=0.1)
    for _ in range(2):
        first(images).patches.square().mean().backward()
        optimiser.step()
    second = make()
    second.load_state_dict({k: v for k, v in first.state_dict().items() if "lora_" in k}, strict=False)
    assert torch.equal(features(first.eval(), images), features(second.eval(), images))


def test_the_seed_decides_the_adapters_and_the_callers_numbers_go_on():
    def draw(seed):
        tokens = load_backbone("timm:test_vit", "random:0", 64).tokens
        return torch.cat([one.flatten() for one in adapter_parameters(add_adapters(tokens, 2, 4.0, seed))])

    before = torch.random.get_rng_state()
    assert torch.equal(draw(7), draw(7))
    assert not torch.equal(draw(7), draw(8))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("test_nfnet", "ScaledStdConv2d"),
        ("nf_resnet26", "ScaledStdConv2d"),
        ("resnetv2_50x1_bit", "StdConv2d"),
        ("skresnet18", "dilated convolution"),
    ],
)
def test_layers_whose_adapters_cannot_be_merged_are_refused(name, kind):
    """They standardise their weights, or peft makes an adapter without their dilation."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    with pytest.raises(FinetuneError, match=rf"take no adapter that could be merged exactly, such as a {kind} \["):
        find_targets(model)


def test_convolutions_with_another_padding_are_refused():
    blocks = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(FinetuneError, match=r"1 of 2 layers take no adapter .* with reflect padding \[0.1\]"):
        find_targets(nn.Sequential(blocks, nn.Flatten()))


def test_only_the_targets_get_adapters():
    """Not the layers elsewhere whose names end alike."""
    model = nn.ModuleDict(
        {
            "blocks": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),
            "other": nn.ModuleDict({"blocks": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))}),
        }
    )
    assert list(find_targets(model)) == ["blocks.0", "blocks.1"]
    names = {name for name, _ in add_adapters(model, 1, 1.0, 0).named_parameters() if "lora_" in name}
    assert len(names) == 4
    assert not any("other" in name for name in names)


def test_adapters_that_the_model_passes_by_are_refused():
    """BEiT multiplies by the weights of its qkv layers itself, with a bias of its own."""
    options = {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 0}
    images = torch.rand(1, 3, 32, 32)
    beit, vit = (
        timm.create_model(name, **options).eval() for name in ("beit_base_patch16_224", "vit_base_patch16_224")
    )
    adapted = add_adapters(vit, 2, 4.0, 0)
    check_used(adapted, lambda: adapted(images))
    passed_by = add_adapters(beit, 2, 4.0, 0)
    with pytest.raises(FinetuneError, match=r"passes 2 of 2 adapters by.*\[blocks.0.attn.qkv\]. Use mode full"):
        check_used(passed_by, lambda: passed_by(images))


def test_a_model_without_layers_for_adapters_is_an_error():
    blocks = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    with pytest.raises(FinetuneError, match=r"no layer that takes an adapter .*Use mode full or top:N"):
        find_targets(blocks)


def test_peft_is_needed(monkeypatch):
    monkeypatch.setattr(lora, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"LoRA needs peft .*skyprobe\[finetune\]"):
        add_adapters(nn.Linear(2, 2), 1, 1.0, 0)
