from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from sklearn.preprocessing import StandardScaler

from featurestore.backbones.loading import load_backbone
from featurestore.errors import FinetuneError, PoolingError, UsageError
from finetune.freezing import count_parameters, find_blocks, parameter_layers
from finetune.models.classifier import Classifier, plan_stages, trained_share
from finetune.models.lora import adapter_parameters

SIDE = 32


def make(name="timm:test_vit", pooling="cls", seed=0):
    return Classifier(load_backbone(name, "random:0", SIDE), pooling, 3, SIDE, seed).eval()


def ids(parameters):
    return {id(one) for one in parameters}


def test_logits_are_the_head_on_pooled_features_of_normalised_pixels():
    backbone = load_backbone("timm:test_vit", "random:0", SIDE)
    classifier = Classifier(backbone, "cls", 3, SIDE, 0).eval()
    pixels = torch.rand(2, 3, SIDE, SIDE)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.spec.mean, backbone.spec.std))
    expected = classifier.head(backbone.tokens((pixels - mean) / std).cls)
    torch.testing.assert_close(classifier(pixels), expected)


def test_features_are_standardised_as_scikit_learn_does():
    classifier, pixels = make("timm:test_resnet", "avgpool"), torch.rand(20, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = StandardScaler().fit(classifier.features(pixels).double().numpy())
    classifier.standardise(pixels.split(7))
    floor = (expected.var_.mean() ** 0.5) / 10
    torch.testing.assert_close(classifier.centre.double(), torch.from_numpy(expected.mean_), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        classifier.scale.double(), torch.from_numpy(expected.var_).sqrt().clamp(min=floor), atol=1e-5, rtol=1e-3
    )


def test_features_that_never_vary_are_not_divided_by_zero():
    classifier = make()
    classifier.standardise([torch.zeros(1, 3, SIDE, SIDE)])
    assert torch.equal(classifier.scale, torch.ones_like(classifier.scale))


def test_the_seed_decides_the_head():
    assert torch.equal(make(seed=1).head.weight, make(seed=1).head.weight)
    assert not torch.equal(make(seed=1).head.weight, make(seed=2).head.weight)


def test_an_inner_layer_is_not_trained():
    with pytest.raises(UsageError, match=r"training takes whole backbones \[timm:test_resnet@2\]. Use"):
        make("timm:test_resnet@2", "avgpool")


def test_a_pooling_that_is_not_offered_is_an_error():
    with pytest.raises(PoolingError, match=r"does not offer the pooling 'map' .*It offers avgpool"):
        make("timm:test_resnet", "map")


# Stages


def test_head(quick):
    classifier = make()
    (stage,) = plan_stages(classifier, quick("head", epochs=4))
    assert stage.epochs == 4
    assert ids(stage.parameters) == ids(classifier.head.parameters())
    assert {group.rate for group in stage.groups} == {1e-3}


def test_full_trains_the_head_alone_and_then_everything(quick):
    classifier = make()
    first, second = plan_stages(classifier, quick("full", epochs=5, head_epochs=2))
    assert (first.epochs, second.epochs) == (2, 3)
    assert ids(first.parameters) == ids(classifier.head.parameters())
    assert ids(second.parameters) == ids(classifier.parameters())
    assert {group.name: group.rate for group in second.groups} == {"head": 1e-3, "backbone": 3e-5}


def test_no_head_epochs_is_no_head_stage(quick):
    assert [stage.name for stage in plan_stages(make(), quick("full", head_epochs=0))] == ["all"]


def test_top_blocks(quick):
    classifier = make()
    _, stage = plan_stages(classifier, quick("top:2"))
    layers = parameter_layers(classifier.tokens)
    expected = ids(classifier.head.parameters()) | ids([*layers[-1], *layers[-2]])
    assert ids(stage.parameters) == expected


def test_more_top_blocks_than_there_are_is_an_error(quick):
    with pytest.raises(FinetuneError, match=r"the backbone has \d+ blocks \[top:99\]"):
        plan_stages(make(), quick("top:99"))


def test_layerwise_opens_one_more_block_a_stage(quick):
    classifier = make("timm:test_resnet", "avgpool")
    n_blocks = len(find_blocks(classifier.tokens))
    first, *stages = plan_stages(classifier, quick("layerwise", epochs=11, head_epochs=1))
    assert first.name == "head"
    assert len(stages) == n_blocks
    assert sum(stage.epochs for stage in stages) == 10
    assert max(stage.epochs for stage in stages) - min(stage.epochs for stage in stages) <= 1
    for before, after in pairwise(stages):
        assert ids(before.parameters) < ids(after.parameters)
    assert ids(stages[-1].parameters) == ids(classifier.parameters())


def test_layerwise_needs_an_epoch_for_each_block(quick):
    with pytest.raises(FinetuneError, match="2 epochs for 4 blocks"):
        plan_stages(make("timm:test_resnet", "avgpool"), quick("layerwise", epochs=3, head_epochs=1))


def test_rates_decay_from_the_last_block_down(quick):
    classifier = make()
    stage = plan_stages(classifier, quick("full", layer_decay=0.5))[-1]
    rate_of = {id(one): group.rate for group in stage.groups for one in group.parameters}
    depths = len(parameter_layers(classifier.tokens))
    for depth, layer in enumerate(parameter_layers(classifier.tokens)):
        assert {rate_of[id(one)] for one in layer} == {3e-5 * 0.5 ** (depths - 1 - depth)}


def test_scratch_trains_everything_at_the_rate_of_the_head(quick):
    classifier = make()
    (stage,) = plan_stages(classifier, quick("scratch"))
    assert ids(stage.parameters) == ids(classifier.parameters())
    assert {group.rate for group in stage.groups} == {1e-3}


def test_lora_trains_adapters_and_head(quick):
    classifier, options = make(), quick("lora")
    n_own = count_parameters(classifier)
    rank = classifier.add_adapters(options, 0)
    (stage,) = plan_stages(classifier, options)
    n_adapters = count_parameters(classifier) - n_own
    assert rank == 2
    assert sum(one.numel() for one in stage.parameters) == n_adapters + count_parameters(classifier.head)
    assert trained_share(classifier, [stage]) == pytest.approx(
        (n_adapters + count_parameters(classifier.head)) / (n_own + n_adapters)
    )


@pytest.mark.parametrize("mode", ["head", "full", "top:1", "layerwise", "scratch"])
def test_biases_and_norms_do_not_decay_and_each_parameter_stands_in_one_group(quick, mode):
    for stage in plan_stages(make("timm:test_resnet", "avgpool"), quick(mode, epochs=8)):
        assert len(ids(stage.parameters)) == len(stage.parameters)
        for group in stage.groups:
            assert {one.ndim > 1 for one in group.parameters} == {group.weight_decay > 0}


def test_merged_adapters_are_compared_with_the_trained_ones(quick, monkeypatch):
    pixels = torch.rand(2, 3, SIDE, SIDE)

    def trained():
        classifier = make()
        classifier.add_adapters(quick("lora"), 0)
        for parameter in adapter_parameters(classifier.tokens):
            parameter.data.add_(0.05)
        return classifier

    right, wrong = trained(), trained()
    right.merge_adapters(pixels)
    assert not [name for name in right.state_dict() if "lora" in name]
    monkeypatch.setattr("finetune.models.classifier.merge_adapters", lambda _: make(seed=1).tokens)
    with pytest.raises(FinetuneError, match=r"with its adapters merged, the classifier's outputs differ by .*%"):
        wrong.merge_adapters(pixels)
