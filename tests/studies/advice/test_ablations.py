"""Each technique: measured to pay, to do harm, to make no difference, and not measured."""

from __future__ import annotations

import pytest

from studies.advice.ablations import advise_on_ablations
from studies.advice.choice import backbone_configurations
from studies.advice.family import judge_together

TOPICS = ["whitening", "an MLP", "another input size", "a crop", "another stretch", "a bigger model"]
FIELDS = {
    "full-480": {"resize": 480, "interpolation": "bilinear"},
    "box-224": {"crop": "box:0.2"},
    "asinh-224": {"stretch": "asinh:0.1"},
    "odd": {"crop": "box:0.2", "resize": 448},
}


@pytest.fixture
def advise(make_runs, make_evidence):
    """``advise(runs, boxed=False)``: advice by topic, on a linear head with 60 wrong rows and on these runs."""

    def make(*runs, boxed=False):
        given = {name.replace("-", "_"): fields for name, fields in FIELDS.items()}
        evidence = make_evidence(make_runs(wrong=60), *runs, **given)
        (base,) = [line for line in evidence.find(head="linear", backbone="dinov2-s", variant="full-224")
                   if line.first.fraction == 100]  # fmt: skip
        found = list(advise_on_ablations(evidence, base, boxed, judge_together(evidence)))
        return {topic: [one for one in found if one.topic == topic] for topic in TOPICS}

    return make


def test_what_was_not_measured_is_said_with_the_command(advise):
    commands = {topic: found[0].command for topic, found in advise().items()}
    assert commands["whitening"].startswith(
        "skyprobe probe 'my galaxies/' -b dinov2-s -p full-224 --head linear,whitened "
    )
    assert "--head linear,mlp" in commands["an MLP"]
    assert "extract 'my galaxies/' -b dinov2-s -p full-480 && skyprobe" in commands["another input size"]
    assert "-p center-224 &&" in commands["a crop"]
    assert "-p asinh-224 &&" in commands["another stretch"]
    assert commands["a bigger model"] == (
        "skyprobe extract 'my galaxies/' -b dinov2-b -p full-224 && skyprobe probe 'my galaxies/' -b dinov2-b -p "
        "full-224 --head linear --protocol cv --pooling cls --labels kind"
    )
    for topic, (found,) in advise().items():
        assert found.sentence == f"Whether {topic} pays on dinov2-s was not measured."
        assert found.rows == ()


def test_objects_with_boxes_are_cropped_to_them(advise):
    assert advise(boxed=True)["a crop"][0].command.startswith(
        "skyprobe extract 'my galaxies/' -b dinov2-s -p box-224 &&"
    )


CHANGES = {
    "whitening": {"head": "whitened"},
    "an MLP": {"head": "mlp"},
    "another input size": {"variant": "full-480"},
    "a crop": {"variant": "box-224"},
    "another stretch": {"variant": "asinh-224"},
    "a bigger model": {"backbone": "dinov2-b"},
}


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize(
    ("wrong", "verdict"), [(20, "pays"), (61, "makes no difference that can be told"), (120, "does harm")]
)
def test_a_measured_difference_is_judged_by_its_interval(advise, make_runs, topic, wrong, verdict):
    advice = advise(make_runs(wrong=wrong, **CHANGES[topic]))
    (found,) = advice[topic]
    (new,) = CHANGES[topic].values()
    assert found.sentence.startswith(f"{new} instead of ")
    assert f" {verdict}: macro-F1 changes by " in found.sentence
    assert found.command == ""
    assert found.rows[0].startswith("toy (kind): dinov2-s, full-224, cls, head linear")
    assert len(found.rows) == 2
    for other in set(TOPICS) - {topic}:
        assert "was not measured" in advice[other][0].sentence


def test_a_variant_that_changes_two_things_tells_of_neither(advise, make_runs):
    advice = advise(make_runs(variant="odd"))
    assert all("was not measured" in advice[topic][0].sentence for topic in ("another input size", "a crop"))


@pytest.mark.parametrize(
    "fields",
    [
        {"fraction": 50},
        {"protocol": "paper"},
        {"pooling": "avg_patch"},
        {"params": {"validation": "rest"}},
        {"key": "x"},
    ],
    ids=str,
)
def test_lines_that_differ_in_something_else_are_not_compared(advise, make_runs, fields):
    assert "was not measured" in advise(make_runs(wrong=20, head="mlp", **fields))["an MLP"][0].sentence


def test_a_smaller_model_and_another_family_are_no_bigger_models(make_runs, make_evidence):
    evidence = make_evidence(make_runs(wrong=30, backbone="dinov2-b"), make_runs(), make_runs(backbone="resnet-50"))
    found = [
        one
        for one in advise_on_ablations(evidence, backbone_configurations(evidence)[0], False, judge_together(evidence))
        if one.topic == "a bigger model"
    ]
    assert [one.sentence for one in found] == ["Whether a bigger model pays on dinov2-b was not measured."]
    assert found[0].command.split(" -b ")[1].startswith("dinov2-l -p full-224 &&")


def test_of_a_model_that_the_catalogue_has_no_larger_one_of_nothing_is_said(make_runs, make_evidence):
    evidence = make_evidence(make_runs(backbone="my-net"))
    assert "a bigger model" not in [
        one.topic for one in advise_on_ablations(evidence, evidence.configurations[0], False, judge_together(evidence))
    ]
