from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import pool
from featurestore.backbones.weights import hash_weights
from featurestore.errors import (
    BackboneError,
    SeenRowsError,
    UsageError,
    WeightsMismatchError,
    WeightsUnavailableError,
)
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store import open_store
from featurestore.training_rows import SEEN, pack_rows
from finetune.data.images import load_images
from finetune.learners.classification import Task, plan_fit, run_fit
from finetune.tuned import CARD, README, WEIGHTS, read_card, save_tuned
from probes.results.run import format_table, summarise, to_frame
from probes.sweep.sweep import sweep

SIDE = 32


@pytest.fixture
def tune(make_sky_images, quick):
    def make(mode="lora", backbone="timm:test_vit", weights="random:0", **task):
        options = quick(mode, epochs=2)
        return run_fit(plan_fit(make_sky_images(), Task(backbone, options, weights=weights, **task)))

    return make


@pytest.fixture
def folder(tmp_path, tune, tuned_adapter):
    save_tuned(tune(), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("mode", "backbone"), [("full", "timm:test_resnet"), ("lora", "timm:test_vit"), ("lora", "timm:test_resnet")]
)
def test_a_tuned_model_is_a_backbone_with_the_same_features(tmp_path, tune, tuned_adapter, mode, backbone):
    tuned = tune(mode, backbone)
    save_tuned(tuned, tmp_path)
    loaded = load_backbone(f"tuned:{tmp_path}", image_size=SIDE)
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = tuned.classifier.features(pixels)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (loaded.spec.mean, loaded.spec.std))
        found = pool(loaded.tokens((pixels - mean) / std), loaded.spec.poolings[0])
    torch.testing.assert_close(found, expected)
    assert loaded.weights_hash == read_card(tmp_path)["weights_hash"] == hash_weights(tuned.classifier.tokens)
    assert loaded.weights_hash != tuned.fit.backbone.weights_hash
    assert loaded.spec.name == f"tuned:{tmp_path}"


def test_the_card_states_where_the_model_comes_from(folder):
    card = json.loads((folder / CARD).read_text())
    assert card["base"] == {
        "backbone": "timm:test_vit",
        "weights": "random:0",
        "hash": load_backbone("timm:test_vit", "random:0", SIDE).weights_hash,
    }
    assert card["dataset"]["name"] == "sky"
    assert len(card["dataset"]["labels"]) == 64
    assert card["classes"] == ["one", "two"]
    assert card["options"]["mode"] == "lora"
    assert 0 <= card["scores"]["f1"] <= 1
    assert "torch" in card["versions"]
    text = (folder / README).read_text()
    assert text.startswith("# timm:test_vit, tuned on sky")
    assert card["weights_hash"] in text and card["base"]["hash"] in text


def test_the_head_is_kept_too(folder):
    state = load_file(folder / WEIGHTS)
    assert state["head.weight"].shape == (2, state["centre"].shape[0])
    assert not any("lora" in name for name in state)


def test_tuned_features_are_extracted(tmp_path, folder, make_sky):
    store, sky, name = open_store(str(tmp_path / "store.zarr"), mode="a"), make_sky(4, 0, 2), f"tuned:{folder}"
    options = ExtractionOptions(engine="torch", workers=1, dtype="float32")
    extract_features(sky, [name], [f"resize={SIDE}"], store, options)
    features = store.load("sky", f"resize={SIDE}", name, pooling="cls")
    assert features.shape[0] == 6
    assert features.key.weights_hash == read_card(folder)["weights_hash"]
    again = extract_features(sky, [name], [f"resize={SIDE}"], store, options)
    assert again.features[0].embedded == 0
    assert np.isfinite(features.values).all()


def test_a_tuned_model_can_be_tuned_again(tmp_path, folder, tune):
    second = tune("head", f"tuned:{folder}", weights=None)
    save_tuned(second, tmp_path / "second")
    card = read_card(tmp_path / "second")
    assert card["base"]["backbone"] == f"tuned:{folder}"
    assert card["architecture"]["model_id"] == "test_vit"
    assert card["weights_hash"] == read_card(folder)["weights_hash"], "the head alone was trained"


def test_the_pooling_of_the_training_is_the_default(tmp_path, tune, tuned_adapter):
    save_tuned(tune("head", pooling="avg_patch"), tmp_path)
    assert load_backbone(f"tuned:{tmp_path}").spec.poolings == ("avg_patch", "cls", "cls_avg_patch")


def test_random_weights_are_to_be_had_for_training_from_scratch(folder):
    random = load_backbone(f"tuned:{folder}", "random:3", SIDE)
    assert random.weights_hash == load_backbone("timm:test_vit", "random:3", SIDE).weights_hash


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": "another"}'])
def test_a_folder_without_a_card_is_no_model(tmp_path, tuned_adapter, text):
    if text is not None:
        (tmp_path / CARD).write_text(text)
    with pytest.raises(WeightsUnavailableError, match=r"the folder holds no tuned model|the card is not of format"):
        load_backbone(f"tuned:{tmp_path}")


def test_a_transformer_keeps_its_input_size(folder):
    with pytest.raises(BackboneError, match=r"tuned at 32 px, .* \[resize=64\]. Use resize=32"):
        load_backbone(f"tuned:{folder}", image_size=64)


def test_other_weights_are_refused(folder):
    with pytest.raises(UsageError, match=r"a tuned model has its own weights .*Leave out --weights"):
        load_backbone(f"tuned:{folder}", "hub")


def test_weights_that_are_not_those_of_the_card_are_refused(folder):
    state = load_file(folder / WEIGHTS)
    name = next(name for name in state if name.startswith("tokens."))
    state[name] = state[name] + 1
    save_file(state, folder / WEIGHTS)
    with pytest.raises(WeightsMismatchError, match="not those that the card was written for"):
        load_backbone(f"tuned:{folder}")


@pytest.fixture
def probed(tmp_path, folder, make_sky):
    """Features of a tuned model on the sky that it was trained on, with other rows marked as test rows."""

    def make(*splits, name="sky"):
        sky = make_sky(*splits)
        sky.table = replace(sky.table, name=name)
        store, backbone = open_store(str(tmp_path / "store.zarr"), mode="a"), f"tuned:{folder}"
        options = ExtractionOptions(engine="torch", workers=1, dtype="float32")
        extract_features(sky, [backbone], [f"resize={SIDE}"], store, options)
        return store.load(name, f"resize={SIDE}", backbone, pooling="cls")

    return make


def test_the_card_names_the_rows_that_decided_the_weights(folder, tune, tmp_path):
    packed = read_card(folder)["training_rows"]
    assert packed.keys() == {"sky"}
    learnt = [f"s{row:03d}" for row in range(24 + 8)]
    assert packed["sky"] == pack_rows(learnt), "training rows, and those to stop on"
    save_tuned(tune("head"), tmp_path / "head")
    assert read_card(tmp_path / "head")["training_rows"] == {}, "the head alone was trained"


def test_a_tuned_backbone_is_probed_on_its_own_test_rows(probed):
    (run,) = sweep(probed(24, 8, 8), ["centroid"], fractions=[100], seeds=1)
    assert SEEN not in run.params


def test_a_tuned_backbone_is_not_tested_on_rows_that_it_learnt_from_without_a_word(probed):
    features = probed(8, 0, 32)
    with pytest.raises(SeenRowsError, match=r"tuned:.* was trained on 24 of the 32 test rows \[sky\].*--allow-seen"):
        sweep(features, ["centroid"], fractions=[100], seeds=1)
    runs = sweep(features, ["centroid"], fractions=[100], seeds=1, allow_seen_rows=True)
    assert runs[0].params[SEEN] == 24
    assert "seen_test_rows" in format_table(summarise(runs))
    assert " 24" in format_table(summarise(runs))
    assert set(to_frame(runs)["params"].map(json.loads).map(lambda params: params[SEEN])) == {24}


def test_rows_of_another_dataset_are_others_even_by_the_same_ids(probed):
    (run,) = sweep(probed(8, 0, 32, name="another"), ["centroid"], fractions=[100], seeds=1)
    assert SEEN not in run.params


def test_a_model_whose_card_names_no_rows_is_not_trusted(probed, folder):
    card = read_card(folder)
    del card["training_rows"]
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(SeenRowsError, match="nobody wrote down which rows tuned:"):
        sweep(probed(24, 8, 8), ["centroid"], fractions=[100], seeds=1)


def test_a_model_that_is_tuned_again_has_seen_the_rows_of_both(tmp_path, folder, make_sky, quick):
    def tune_again(mode, dataset, allow):
        images = load_images(dataset, f"resize={SIDE}", np.arange(len(dataset)), 2**24)
        task = Task(f"tuned:{folder}", quick(mode, epochs=2), allow_seen_rows=allow)
        return run_fit(plan_fit(images, task))

    reversed_splits = make_sky(8, 0, 32)
    with pytest.raises(SeenRowsError, match="was trained on 24 of the 32 test rows"):
        tune_again("full", reversed_splits, allow=False)
    tuned = tune_again("lora", reversed_splits, allow=True)
    assert tuned.run.params[SEEN] == 24
    save_tuned(tuned, tmp_path / "second")
    learnt = [f"s{row:03d}" for row in range(32)]
    assert read_card(tmp_path / "second")["training_rows"] == {"sky": pack_rows(learnt)}
    scratch = tune_again("scratch", reversed_splits, allow=False)
    assert SEEN not in scratch.run.params, "random weights have seen nothing"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.pop("weights_hash"), "the card lacks weights_hash"),
        (lambda card: card["architecture"].update(colour="red"), "the card describes no backbone of this version"),
        (lambda card: card.update(architecture=3), "the card describes no backbone of this version"),
    ],
)
def test_a_damaged_card_is_told(folder, change, message):
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(WeightsUnavailableError, match=message):
        load_backbone(f"tuned:{folder}")
