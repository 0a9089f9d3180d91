from __future__ import annotations

import pytest

from featurestore.errors import UnknownNameError, UsageError
from finetune.options import (
    AUGMENTATIONS,
    Augmentation,
    ConsistencyOptions,
    FinetuneOptions,
    TrainerOptions,
    make_options,
)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (
            TrainerOptions,
            {"patience": -1},
            r"patience should be .* 0 \[patience=-1\]. Correct it, or leave",
        ),
        (TrainerOptions, {"accumulation": 0}, "accumulation should be greater than or equal to 1"),
        (TrainerOptions, {"clip": float("nan")}, "clip should be a finite number"),
        (TrainerOptions, {"momentum": 1.0}, "momentum should be less than 1"),
        (ConsistencyOptions, {"threshold": 0.0}, "threshold should be greater than 0"),
        (ConsistencyOptions, {"ratio": 0}, "ratio should be greater than or equal to 1"),
        (Augmentation, {"zoom": 1.0}, "zoom should be less than 1"),
        (FinetuneOptions, {"epochs": 0}, "epochs should be greater than or equal to 1"),
        (FinetuneOptions, {"learning_rate": 0}, "learning_rate should be greater than 0"),
        (FinetuneOptions, {"layer_decay": float("inf")}, "layer_decay should be a finite number"),
        (FinetuneOptions, {"epochs": 10}, "the head alone takes 10 of 10 epochs, and none are left"),
    ],
)
def test_values_out_of_range_are_refused(kind, given, message):
    with pytest.raises(UsageError, match=message):
        kind(**given)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (TrainerOptions, {"optimiser": "adam"}, "unknown optimiser 'adam'.*Did you mean adamw"),
        (TrainerOptions, {"schedule": "linear"}, "unknown schedule"),
        (TrainerOptions, {"device": "tpu"}, "unknown device"),
        (TrainerOptions, {"precision": "int8"}, "unknown precision"),
        (FinetuneOptions, {"mode": "layers"}, "unknown mode 'layers'.*layerwise"),
        (FinetuneOptions, {"mode": "top:0"}, "unknown mode 'top:0'.*top:N"),
        (FinetuneOptions, {"mode": "top"}, "unknown mode 'top'"),
    ],
)
def test_unknown_names_are_refused(kind, given, message):
    with pytest.raises(UnknownNameError, match=message):
        kind(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 20.5}, r"epochs should be a valid integer \[epochs=20.5\]"),
        ({"epochs": "20"}, "epochs should be a valid integer"),
        ({"balanced": "false"}, r"balanced should be a valid boolean \[balanced='false'\]"),
        ({"balanced": 1}, "balanced should be a valid boolean"),
        ({"patience": True}, "patience should be a valid integer"),
        ({"learning_rate": "1e-3"}, "learning_rate should be a valid number"),
        ({"mode": 3}, "mode should be a valid string"),
        ({"jitter": 2}, "jitter should be less than or equal to 1"),
        ({"unlabelled": "yes"}, "unlabelled should be a valid boolean"),
        ({"epochs": 0, "lora_rank": 1.5}, r"epochs should .*; lora_rank should .* \[epochs=0, lora_rank=1.5\]"),
    ],
)
def test_values_of_another_type_are_refused_by_name(given, message):
    with pytest.raises(UsageError, match=message):
        make_options(**given)


def test_a_whole_number_is_a_rate():
    assert make_options(learning_rate=1).learning_rate == 1.0


@pytest.mark.parametrize("mode", ["head", "lora", "scratch"])
def test_modes_without_a_head_stage_may_have_few_epochs(mode):
    assert FinetuneOptions(mode, epochs=1).epochs == 1


def test_n_of_top():
    assert FinetuneOptions("top:12").n_top == 12


def test_flat_options_go_where_they_belong():
    options = make_options(
        "lora", unlabelled=True, augment="flips", jitter=0.1, epochs=7, lora_rank=4, patience=3, ratio=2, clip=None
    )
    assert (options.mode, options.epochs) == ("lora", 7)
    assert options.lora_rank == 4
    assert options.trainer == TrainerOptions(patience=3)
    assert options.consistency == ConsistencyOptions(ratio=2)
    assert options.augmentation == Augmentation(jitter=0.1)


def test_the_defaults_are_those_of_the_classes():
    assert make_options() == FinetuneOptions()


@pytest.mark.parametrize("name", ["epoch", "trainer", "options"])
def test_an_unknown_flat_option_is_refused(name):
    with pytest.raises(UnknownNameError, match=f"unknown option '{name}'"):
        make_options(**{name: 1})


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(UnknownNameError, match=r"unknown augmentation 'sk'.*sky"):
        make_options(augment="sk")


def test_options_of_unlabelled_rows_need_these():
    with pytest.raises(UsageError, match=r"threshold without unlabelled rows .*Add --unlabelled"):
        make_options(threshold=0.9)


def test_colours_stay_as_they_are_unless_asked_for():
    assert {one.jitter for one in AUGMENTATIONS.values()} == {0.0}
