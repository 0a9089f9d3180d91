from __future__ import annotations

import pytest
import timm
import torch
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import resnet18

from featurestore.backbones.loading import load_backbone
from featurestore.errors import BackboneError, UnknownNameError
from finetune.detection.body import Body, load_body, shapes_of

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def normalised(spec):
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (spec.mean, spec.std))
    return (IMAGES - mean) / std


@pytest.mark.parametrize("name", ["timm:test_vit", "transformers:facebook/vit-msn-small"])
def test_a_transformer_gives_its_patch_grid(name):
    backbone = load_backbone(name, "random:3", 64)
    expected = backbone.tokens(normalised(backbone.spec)).patches.movedim(-1, 1)
    maps = Body(backbone, "frozen")(IMAGES)
    assert list(maps) == ["last"]
    torch.testing.assert_close(maps["last"], expected)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_a_cnn_gives_the_stages_of_the_same_weights(name):
    """As timm's own ``features_only`` network, which is another object with the same weights."""
    backbone = load_backbone(f"timm:{name}", "random:3", 64)
    oracle = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    own = {key.replace("_", "."): value for key, value in backbone.tokens.model.state_dict().items()}
    oracle.load_state_dict({key: own[key.replace("_", ".")] for key in oracle.state_dict()})
    expected = oracle(normalised(backbone.spec))
    maps = Body(backbone, "frozen")(IMAGES)
    assert list(maps) == ["0", "1", "2", "3"]
    for found, wanted in zip(maps.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_resnets_give_the_layers_that_torchvision_picks(name):
    backbone = load_backbone(name, "random:3", 64)
    model = resnet18(weights=None)
    holder = backbone.tokens.model if name.startswith("timm") else backbone.tokens.trunk
    model.load_state_dict(holder.state_dict(), strict=False)
    picked = IntermediateLayerGetter(model.eval(), {f"layer{n + 1}": str(n) for n in range(4)})
    expected = picked(normalised(backbone.spec))
    maps = Body(backbone, "frozen")(IMAGES)
    assert list(maps) == list(expected)
    for one in maps:
        torch.testing.assert_close(maps[one], expected[one])


@pytest.mark.parametrize("mode", ["frozen", "tuned", "scratch"])
def test_what_each_mode_trains(mode):
    body = load_body("timm:test_resnet", mode, 64, weights="random:3")
    before = {name: value.clone() for name, value in body.state_dict().items()}
    maps = body.train()(IMAGES)
    trained = [parameter.requires_grad for parameter in body.parameters()]
    assert all(trained) if mode != "frozen" else not any(trained)
    assert all(one.requires_grad == (mode != "frozen") for one in maps.values())
    moved = [name for name, value in body.state_dict().items() if not torch.equal(value, before[name])]
    assert bool(moved) == (mode == "scratch")
    assert all("running" in name or "batches" in name for name in moved)


def test_every_trained_parameter_gets_a_gradient():
    body = load_body("timm:test_efficientnet", "tuned", 64, weights="random:3")
    sum(one.sum() for one in body(IMAGES).values()).backward()
    assert [name for name, parameter in body.named_parameters() if parameter.grad is None] == []


def test_scratch_takes_random_weights_by_seed():
    first, again, other = (load_body("timm:test_vit", "scratch", 64, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_shapes_leave_the_mode_as_it_was():
    body = load_body("timm:test_resnet", "scratch", 64).train()
    assert shapes_of(body, 64) == {"0": (32, 16, 16), "1": (48, 8, 8), "2": (192, 4, 4), "3": (96, 2, 2)}
    assert body.training


def test_an_unknown_mode():
    with pytest.raises(UnknownNameError, match="mode"):
        load_body("timm:test_vit", "thawed", 64)


def test_a_network_without_stages():
    with pytest.raises(
        BackboneError, match=r"the stages of this network cannot be reached \[torchvision:densenet121\]"
    ):
        load_body("torchvision:densenet121", "scratch", 64)
