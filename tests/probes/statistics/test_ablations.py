"""Ablations: which pairs of configurations are one, and by how much each changes the score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from probes.results.tables import to_latex
from probes.statistics.ablations import (
    ABLATIONS,
    ablation_frame,
    ablation_table,
    base_configurations,
    measure_ablations,
    name_ablation,
)
from probes.statistics.configurations import gather_configurations
from probes.statistics.feature_info import FeatureInfo

PLAIN = {"crop": "none", "stretch": "none", "resize": 224, "interpolation": "bicubic"}
VARIANTS = {
    "full-224": {},
    "full-480": {"resize": 480, "interpolation": "bilinear"},
    "box-224": {"crop": "box:0.2"},
    "asinh-224": {"stretch": "asinh:0.1"},
    "box-480": {"crop": "box:0.2", "resize": 480},
}
SIZES = {"dinov2-s": 22.1, "dinov2-b": 86.6, "resnet-50": 23.5}
INFOS = [
    FeatureInfo(f"{backbone}/{variant}", backbone, variant, PLAIN | changed, 14, params)
    for backbone, params in SIZES.items()
    for variant, changed in VARIANTS.items()
]


@pytest.mark.parametrize(
    ("change", "ablation"),
    [
        ({"head": "whitened"}, "whitening"),
        ({"head": "mlp"}, "MLP"),
        ({"head": "whitened-mlp"}, "whitening and MLP"),
        ({"backbone": "dinov2-b"}, "bigger model"),
        ({"variant": "full-480"}, "input size"),
        ({"variant": "box-224"}, "crop"),
        ({"variant": "asinh-224"}, "stretch"),
        ({"backbone": "dinov2-s+resnet-50"}, "combination"),
        ({"head": "finetune:lora", "protocol": "supervised", "key": "tuned"}, "fine-tuning"),
        ({}, None),
        ({"head": "knn"}, None),
        ({"backbone": "resnet-50"}, None),
        ({"variant": "box-480"}, None),
        ({"variant": "box-224", "head": "mlp"}, None),
        ({"backbone": "dinov2-b", "variant": "full-480"}, None),
        ({"head": "finetune:lora", "variant": "box-224"}, None),
        ({"head": "mlp", "fraction": 50}, None),
        ({"head": "mlp", "params": {"validation": "rest"}}, None),
        ({"variant": "full-480", "key": "of no source"}, None),
    ],
)
def test_an_ablation_is_one_difference_alone(make_runs, change, ablation):
    (base,), (other,) = (gather_configurations(runs)[0] for runs in (make_runs(), make_runs(**change)))
    assert name_ablation(base, other, INFOS) == ablation


def test_a_smaller_model_is_no_ablation(make_runs):
    (base,), (other,) = (gather_configurations(make_runs(backbone=name))[0] for name in ("dinov2-b", "dinov2-s"))
    assert name_ablation(base, other, INFOS) is None


def test_bases_are_linear_heads_on_the_plainest_variant_that_most_backbones_have(make_runs):
    runs = [
        *make_runs(variant="box-224"),
        *make_runs(variant="full-480"),
        *make_runs(),
        *make_runs(fraction=10),
        *make_runs(head="mlp"),
        *make_runs(backbone="dinov2-s+resnet-50"),
    ]
    (base,) = base_configurations(gather_configurations(runs)[0], INFOS)
    assert (base.first.variant, base.first.fraction, base.first.head) == ("full-224", 100, "linear")
    more = [*runs, *make_runs(variant="box-224", backbone="resnet-50")]
    assert {line.first.variant for line in base_configurations(gather_configurations(more)[0], INFOS)} == {"box-224"}
    assert base_configurations([], INFOS) == []


@pytest.fixture
def measured(make_runs):
    runs = [
        *make_runs(wrong=80),
        *make_runs(wrong=50, head="mlp"),
        *make_runs(wrong=79, head="whitened"),
        *make_runs(wrong=30, variant="box-224"),
        *make_runs(wrong=20, head="finetune:lora", key="tuned", seeds=1),
        *make_runs(wrong=100, backbone="resnet-50"),
        *make_runs(wrong=120, backbone="resnet-50", head="mlp"),
        *[replace(run, seed=7) for run in make_runs(wrong=90, backbone="resnet-50", head="whitened", seeds=1)],
    ]
    return measure_ablations(gather_configurations(runs)[0], INFOS)


def test_changes_are_relative_to_the_base_over_common_seeds(make_runs, measured):
    frame = ablation_frame(measured).set_index(["ablation", "backbone"])
    first, second = make_runs(wrong=80), make_runs(wrong=50)
    scores = [np.mean([f1_score(run.truth, run.predicted, average="macro") for run in runs])
              for runs in (first, second)]  # fmt: skip
    row = frame.loc[("MLP", "dinov2-s")]
    assert row["relative"] == pytest.approx(100 * (scores[1] / scores[0] - 1))
    assert (row["base"], row["score"]) == pytest.approx(tuple(scores))
    assert row["relative_low"] < row["relative"] < row["relative_high"]
    assert frame.loc[("fine-tuning", "dinov2-s"), "seeds"] == 1
    assert frame.loc[("MLP", "resnet-50"), "relative_high"] < 0
    assert np.isnan(frame.loc[("whitening", "resnet-50"), "relative"])
    order = [ABLATIONS.index(name) for name, _ in frame.index]
    assert order == sorted(order)


def test_table_4_has_ablations_as_rows_and_backbones_as_columns(measured):
    table = ablation_table(ablation_frame(measured))
    assert table.frame.columns.tolist() == ["ablation", "change", "dinov2-s", "resnet-50"]
    cells = table.frame.set_index("ablation")
    assert cells.loc["MLP", "dinov2-s"].startswith("+")
    assert " %* [+" in cells.loc["MLP", "dinov2-s"]
    assert "*" not in cells.loc["whitening", "dinov2-s"]
    assert cells.loc["whitening", "resnet-50"] == "no common seed"
    assert cells.loc["crop", "resnet-50"] == "-"
    assert cells.loc["fine-tuning", "change"] == "lora"
    assert "5 comparisons" in table.caption
    text = to_latex(table)
    assert r"\toprule" in text
    assert r"\%* [+" in text


def test_rows_that_only_the_pooling_tells_apart_show_it(make_runs):
    runs = [
        run
        for pooling in ("cls", "avg_patch")
        for head in ("linear", "mlp")
        for run in make_runs(pooling=pooling, head=head)
    ]
    table = ablation_table(ablation_frame(measure_ablations(gather_configurations(runs)[0], INFOS)))
    assert table.frame["pooling"].tolist() == ["avg_patch", "cls"]


def test_a_base_that_scores_zero_has_an_absolute_change(make_runs):
    runs = [*make_runs(wrong=240, seeds=1), *make_runs(wrong=120, seeds=1, head="mlp")]
    table = ablation_table(ablation_frame(measure_ablations(gather_configurations(runs)[0], INFOS)))
    assert table.frame["dinov2-s"].tolist() == ["+0.500 from 0"]


def test_nothing_measured_is_no_ablation(make_runs):
    assert measure_ablations(gather_configurations(make_runs())[0], INFOS) == []


def test_intervals_over_rows_alone_are_marked_among_others(make_runs):
    def table(seeds):
        runs = [
            *make_runs(wrong=60),
            *make_runs(wrong=50, head="mlp"),
            *make_runs(wrong=50, head="whitened", seeds=seeds),
        ]
        frame = ablation_frame(measure_ablations(gather_configurations(runs)[0], INFOS))
        return frame.set_index("ablation")["interval_over"].to_dict(), ablation_table(frame)

    over, shown = table(1)
    assert over == {"whitening": "rows", "MLP": "rows and seeds"}
    cells = shown.frame.set_index("ablation")["dinov2-s"]
    assert cells["whitening"].endswith("] (rows)")
    assert cells["MLP"].endswith("]")
    assert "those over rows alone" in shown.caption
    over, shown = table(3)
    assert set(over.values()) == {"rows and seeds"}
    assert "(rows)" not in shown.frame.to_string()


def test_a_variant_of_which_nothing_is_known_comes_before_none_that_does_less(make_runs):
    """Equally many backbones: crop and stretch are two changes, as many as what is not known counts for."""
    busy = FeatureInfo("k", "dinov2-s", "a-busy", PLAIN | {"crop": "box", "stretch": "asinh"}, 14, 22.1)
    one_change = FeatureInfo("k", "dinov2-s", "z-box", PLAIN | {"crop": "box"}, 14, 22.1)
    runs = [*make_runs(variant="a-busy"), *make_runs(variant="unknown")]
    (base,) = base_configurations(gather_configurations(runs)[0], [busy, one_change])
    assert base.first.variant == "unknown"
    runs += make_runs(variant="z-box")
    (base,) = base_configurations(gather_configurations(runs)[0], [busy, one_change])
    assert base.first.variant == "z-box"


def test_a_frame_has_its_columns_where_nothing_was_compared(make_runs):
    other = [replace(run, seed=7) for run in make_runs(head="mlp", seeds=1)]
    found = measure_ablations(gather_configurations([*make_runs(), *other])[0], INFOS)
    row = ablation_frame(found).iloc[0]
    assert (row["ablation"], row["change"], row["seeds"], row["comparisons"]) == ("MLP", "mlp", 0, 0)
    assert row[["metric", "base", "score", "relative", "p", "p_holm", "interval_over"]].isna().all()
