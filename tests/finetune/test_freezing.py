from __future__ import annotations

import pytest
import timm
import torch
import transformers
from torch import nn

from featurestore.backbones.adapters.timm_layout import find_layout, wrap_model
from featurestore.backbones.adapters.torchvision import ADAPTER as TORCHVISION
from featurestore.backbones.weights import parse_weights
from featurestore.errors import FinetuneError
from finetune.freezing import count_parameters, find_blocks, hold_statistics, parameter_layers, train_only


def timm_tokens(name):
    with torch.device("meta"):
        layout = find_layout(timm.create_model(name, num_classes=0), name)
    return wrap_model(timm.create_model(name, num_classes=0), layout, 160)


def torchvision_tokens():
    class Spec:
        model_id = "resnet18"

    return TORCHVISION.build(Spec, parse_weights("random:0"), 64, False)


def transformers_vit():
    return transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, image_size=32
        ),
        add_pooling_layer=False,
    )


MODELS = {
    "timm ViT": (lambda: timm_tokens("test_vit"), lambda m: list(m.model.blocks)),
    "timm ResNet": (
        lambda: timm_tokens("test_resnet"),
        lambda m: [m.model.layer1, m.model.layer2, m.model.layer3, m.model.layer4],
    ),
    "timm EfficientNet": (lambda: timm_tokens("test_efficientnet"), lambda m: list(m.model.blocks)),
    "timm ConvNeXt": (lambda: timm_tokens("test_convnext"), lambda m: list(m.model.stages)),
    "torchvision ResNet": (
        torchvision_tokens,
        lambda m: [m.trunk.layer1, m.trunk.layer2, m.trunk.layer3, m.trunk.layer4],
    ),
    "transformers ViT": (transformers_vit, lambda m: list(m.layers)),
}


@pytest.mark.parametrize("name", MODELS)
def test_blocks_are_found_by_structure(name):
    build, expected = MODELS[name]
    module = build()
    found = find_blocks(module)
    assert [id(block) for block in found] == [id(block) for block in expected(module)]


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_one_depth_and_blocks_keep_their_order(name):
    module = MODELS[name][0]()
    layers, blocks = parameter_layers(module), find_blocks(module)
    assert sorted(id(one) for layer in layers for one in layer) == sorted(map(id, module.parameters()))
    assert len(layers) == len(blocks) + 1
    assert layers[0], "what comes before the first block"
    for layer, block in zip(layers[1:], blocks, strict=True):
        assert {id(one) for one in block.parameters()} <= {id(one) for one in layer}


def test_positions_come_before_the_blocks_and_the_last_norm_goes_with_the_last_one():
    tokens = timm_tokens("test_vit")
    layers = [{id(one) for one in layer} for layer in parameter_layers(tokens)]
    assert {id(tokens.model.pos_embed), id(tokens.model.cls_token)} <= layers[0]
    assert id(tokens.model.norm.weight) in layers[-1]


def test_a_model_without_a_row_of_blocks_is_an_error():
    with pytest.raises(FinetuneError, match=r"no row of numbered blocks .*Use mode full, head or lora"):
        find_blocks(nn.ModuleDict({"in": nn.Linear(2, 2), "out": nn.Linear(2, 2)}))


def test_only_what_is_trained_is_in_training_mode():
    module = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout()),
        nn.Sequential(nn.Linear(2, 2), nn.Dropout()),
    ).requires_grad_(False)
    module[1].requires_grad_(True)
    train_only(module)
    assert [part.training for part in module[0].modules()] == [False] * 4
    assert [part.training for part in module[1].modules()] == [True] * 3
    assert module.training


def test_frozen_batch_normalisation_in_a_trained_block_keeps_its_statistics():
    block = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    block[1].requires_grad_(False)
    train_only(block)
    block(torch.randn(8, 2) + 5)
    assert torch.equal(block[1].running_mean, torch.zeros(2))


def test_held_statistics_stay_in_training():
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, affine=False), nn.Dropout()).train()
    hold_statistics(module)
    module(torch.randn(8, 3, 4, 4) + 5)
    assert torch.equal(module[1].running_mean, torch.zeros(2))
    assert module[0].training and module[2].training


def test_parameters_are_counted_once():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    module[0].requires_grad_(False)
    assert count_parameters(module) == 3 * 4 + 4 + 4 * 2 + 2
    assert count_parameters(module, trained=True) == 4 * 2 + 2
