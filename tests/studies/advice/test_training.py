"""When to label more and when to train: each case fires where it should, and not where it should not."""

from __future__ import annotations

import pytest

from studies.advice.choice import backbone_configurations
from studies.advice.family import judge_together
from studies.advice.training import advise_on_labels, advise_on_training, last_rise


@pytest.fixture
def advise(make_runs, make_evidence):
    """``advise(runs, top=100)``: advice on labels, and advice on training, of a base with 60 wrong rows."""

    def make(*runs, top=100):
        evidence = make_evidence(make_runs(wrong=60, fraction=top), *runs)
        base = backbone_configurations(evidence)[0]
        family = judge_together(evidence)
        rise = last_rise(evidence, base, family)
        (labels,) = advise_on_labels(evidence, base, rise)
        return labels, list(advise_on_training(evidence, base, rise, family))

    return make


@pytest.fixture
def make_trained(make_runs):
    def make(mode, wrong, **fields):
        return make_runs(wrong=wrong, head=f"finetune:{mode}", key=f"{mode}", protocol="supervised", **fields)

    return make


def test_a_rising_curve_asks_for_labels(advise, make_runs):
    labels, (step,) = advise(make_runs(wrong=100, fraction=50), make_runs(wrong=61, fraction=10))
    assert labels.sentence.startswith(
        "The learning curve of dinov2-s still rises: more labels would help; from 50 % to 100 %"
    )
    assert step.sentence == "The next step is to label more: the learning curve has not ended."
    assert [row.split(" % of the labels")[0][-3:] for row in labels.rows] == [" 50", "100"]


def test_a_flat_curve_does_not(advise, make_runs):
    labels, (step,) = advise(make_runs(wrong=61, fraction=50))
    assert "no longer rises measurably" in labels.sentence
    assert "label more" not in step.sentence


def test_a_curve_of_one_point_was_not_measured(advise):
    labels, _ = advise()
    assert labels.sentence == "Whether more labels would help was not measured."
    assert labels.command.endswith("--head linear --protocol cv --pooling cls --labels kind --fractions 50,100")


def test_a_curve_that_ends_before_all_labels_is_told(advise, make_runs):
    labels, _ = advise(make_runs(wrong=100, fraction=10), top=50)
    assert labels.sentence == "Whether all labels do better than 50 % of them was not measured."
    assert labels.command.endswith("--fractions 50,100")


def test_training_that_was_not_measured_is_said_with_the_command(advise, make_runs):
    _, (step,) = advise(make_runs(wrong=61, fraction=50))
    assert "whether LoRA or full tuning pays was not measured" in step.sentence
    assert step.command == "skyprobe finetune 'my galaxies/' -b dinov2-s -p full-224 --mode lora --labels kind"


def test_a_plateau_and_a_better_training_ask_for_it(advise, make_runs, make_trained):
    _, found = advise(make_runs(wrong=61, fraction=50), make_trained("lora", 25), make_trained("full", 10))
    sentences = [one.sentence for one in found]
    assert sentences[0].startswith("Full tuning of dinov2-s pays: macro-F1 changes by +0.2")
    assert sentences[0].endswith("against the head linear on frozen dinov2-s, full-224; a training took 30 s.")
    assert sentences[1].startswith("LoRA of dinov2-s pays")
    assert sentences[2].startswith("LoRA of dinov2-s falls short of full tuning")
    assert sentences[3] == (
        "The next step is Full tuning of dinov2-s: it beats frozen features; labels alone no longer help."
    )
    assert found[3].command == ""
    assert len(found[3].rows) == 4


def test_lora_that_is_as_good_as_full_tuning_is_told(advise, make_trained):
    _, found = advise(make_trained("lora", 20), make_trained("full", 21))
    assert found[2].sentence.startswith("LoRA of dinov2-s cannot be told from full tuning")
    assert found[3].sentence.endswith("whether labels would help too was not measured.")


@pytest.mark.parametrize(("wrong", "verdict"), [(61, "makes no difference that can be told"), (120, "does harm")])
def test_a_training_that_is_no_better_is_not_advised(advise, make_runs, make_trained, wrong, verdict):
    _, found = advise(make_runs(wrong=61, fraction=50), make_trained("scratch", wrong))
    assert f"Training from scratch of dinov2-s {verdict}" in found[0].sentence
    assert found[1].sentence == "Stay with frozen features: no training that was measured does better."


def test_a_rising_curve_comes_before_a_training_that_pays(advise, make_runs, make_trained):
    _, found = advise(make_runs(wrong=100, fraction=50), make_trained("top:2", 10))
    assert found[0].sentence.startswith("Training by top:2 of dinov2-s pays")
    assert found[1].sentence.endswith("the learning curve has not ended. Training the backbone pays already.")


def test_a_training_is_compared_with_the_same_backbone_frozen(advise, make_runs, make_trained):
    frozen = make_runs(wrong=120, backbone="resnet-50")
    _, found = advise(frozen, make_trained("full", 70, backbone="resnet-50"))
    assert "Full tuning of resnet-50 pays" in found[0].sentence
    assert "on frozen resnet-50, full-224" in found[0].sentence


def test_a_training_on_other_images_is_compared_with_the_best_frozen_line(advise, make_trained):
    _, found = advise(make_trained("full", 70, variant="box-224"))
    assert "on frozen dinov2-s, full-224" in found[0].sentence


def test_trainings_on_other_fractions_are_not_compared(advise, make_trained):
    _, (step,) = advise(make_trained("lora", 10, fraction=10))
    assert "not measured" in step.sentence


def test_four_fractions_give_what_twice_the_labels_promise(advise, make_runs):
    others = [make_runs(wrong=wrong, fraction=fraction) for fraction, wrong in ((10, 120), (30, 85), (50, 70))]
    labels, _ = advise(*others)
    assert "Of twice the labels the fitted curve expects 0." in labels.sentence
    assert labels.sentence.endswith("extrapolated.")
    assert len(labels.rows) == 4
