"""The best backbone, ties, and the line that other advice starts from."""

from __future__ import annotations

from studies.advice.choice import advise_on_backbone, backbone_configurations
from studies.advice.family import judge_together


def advise(evidence):
    (found,) = advise_on_backbone(evidence, backbone_configurations(evidence), judge_together(evidence))
    return found


def test_a_backbone_that_is_better_than_all_others_is_named_with_its_cost(make_runs, make_evidence):
    evidence = make_evidence(make_runs(wrong=20), make_runs(wrong=90, backbone="resnet-50"))
    found = advise(evidence)
    assert found.sentence == (
        "dinov2-s (22.1 M parameters, 384 features) is best of 2 backbones on full-224 with 100 % of the labels, "
        "chosen by the test rows. It is better than each other one that shares seeds with it."
    )
    assert [row.split(", ")[0] for row in found.rows] == ["toy (kind): dinov2-s", "toy (kind): resnet-50"]
    assert found.command == ""


def test_ties_are_named_and_the_smallest_of_them(make_runs, make_evidence):
    backbones = {"dinov2-b": 40, "resnet-50": 41, "dinov2-s": 120}
    found = advise(make_evidence(*(make_runs(wrong=wrong, backbone=name) for name, wrong in backbones.items())))
    assert "dinov2-b (86.6 M parameters" in found.sentence
    assert "It cannot be told from resnet-50 (23.5 M parameters" in found.sentence
    assert found.sentence.endswith("The smallest of these is resnet-50.")
    assert "dinov2-s" not in found.sentence and len(found.rows) == 3


def test_sizes_that_are_not_known_are_not_told(make_runs, make_evidence):
    found = advise(make_evidence(make_runs(wrong=40), make_runs(wrong=41, backbone="my-net")))
    assert "my-net -0.00" in found.sentence
    assert "smallest" not in found.sentence


def test_a_single_backbone_is_compared_with_none(make_runs, make_evidence):
    found = advise(make_evidence(make_runs()))
    assert "the only backbone measured" in found.sentence
    extract, _, probe = found.command.partition(" && ")
    assert extract == "skyprobe extract 'my galaxies/' -b resnet-50 -p full-224"
    assert probe.startswith("skyprobe probe 'my galaxies/' -b resnet-50 -p full-224 --head linear --protocol ")


def test_backbones_are_compared_where_most_of_them_were_measured(make_runs, make_evidence):
    evidence = make_evidence(
        make_runs(wrong=10, variant="box-224"),
        make_runs(wrong=5, head="mlp"),
        make_runs(wrong=5, protocol="paper", backbone="resnet-50"),
        make_runs(wrong=50),
        make_runs(wrong=40, fraction=50),
        make_runs(wrong=60, backbone="resnet-50"),
        make_runs(wrong=30, backbone="resnet-50", pooling="avg_patch", params={"options": {"cv": 4}}),
    )
    lines = backbone_configurations(evidence)
    assert [(line.first.backbone, line.first.variant, line.first.protocol) for line in lines] == [
        ("dinov2-s", "full-224", "cv"), ("resnet-50", "full-224", "cv"),
    ]  # fmt: skip


def test_of_the_poolings_of_a_backbone_the_best_counts(make_runs, make_evidence):
    evidence = make_evidence(make_runs(wrong=50), make_runs(wrong=30, pooling="avg_patch"))
    assert [line.first.pooling for line in backbone_configurations(evidence)] == ["avg_patch"]


def test_without_a_linear_head_there_is_nothing_to_start_from(make_runs, make_evidence):
    assert backbone_configurations(make_evidence(make_runs(head="knn"))) == []
