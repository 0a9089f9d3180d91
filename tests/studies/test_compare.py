"""Everything that is said of differences, from runs in hand and from runs in a store."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from featurestore.errors import ProbeError, UnknownNameError, UsageError
from finetune.run_cache import TRAINED
from probes.statistics.configurations import gather_configurations
from probes.statistics.feature_info import FeatureInfo
from probes.sweep.cache import RUNS, save_run
from studies.advice.advisor import draw
from studies.advice.evidence import Evidence
from studies.compare import compare_stored, find_configuration, find_differences, significance_tables, write_findings
from studies.result_text import to_text

INFOS = [FeatureInfo("dinov2-s/full-224", "dinov2-s", "full-224", {"resize": 224}, 14, 22.1)]


@pytest.fixture
def measured(make_runs):
    """Two heads at four fractions, and one at the largest alone."""
    wrong = {10: 150, 30: 110, 50: 95, 100: 80}
    heads = {"linear": 0, "mlp": 20}
    runs = [
        run
        for head, fewer in heads.items()
        for fraction, n in wrong.items()
        for run in make_runs(wrong=n - fewer, head=head, fraction=fraction)
    ]
    return [*runs, *make_runs(wrong=81, head="whitened")]


def test_all_tables_of_one_test_set(measured):
    found = find_differences(gather_configurations(measured)[0], INFOS)
    assert list(found.tables) == list(found.frames) == ["ranking", "ablations", "learning-curves"]
    assert found.frames["ranking"]["head"].tolist() == ["mlp", "linear", "whitened"]
    assert found.frames["ranking"]["tied"].tolist() == ["-", "no", "no"]
    assert found.frames["ablations"]["ablation"].tolist() == ["whitening", "MLP"]
    assert found.frames["learning-curves"]["head"].tolist() == ["linear", "mlp"]
    assert [curve.steps[0].first.head for curve in found.curves] == ["linear", "mlp"]
    assert found.remarks == []


def test_a_fraction_a_metric_a_reference_and_a_target_are_chosen(measured):
    found = find_differences(
        gather_configurations(measured)[0], metric="accuracy", fraction=30, against="linear", target=0.99
    )
    ranking = found.frames["ranking"].set_index("head")
    assert ranking["fraction"].tolist() == [30, 30]
    assert ranking["metric"].tolist() == ["accuracy", "accuracy"]
    assert ranking["tied"].to_dict() == {"mlp": "no", "linear": "-"}
    (remark,) = found.remarks
    assert remark.startswith("accuracy 0.99 is not reached with up to 1,000 times the labels measured by dinov2-s, ")


def test_a_target_without_a_curve_is_told(make_runs):
    found = find_differences(gather_configurations(make_runs())[0], target=0.9)
    assert list(found.tables) == ["ranking"]
    assert "probe --fractions 10,30,50,100" in found.remarks[0]


def test_what_was_not_measured_is_refused(measured):
    lines, _ = gather_configurations(measured)
    with pytest.raises(UsageError, match=r"no run has 70 % of the labels.*Measured: 10, 30, 50, 100\."):
        find_differences(lines, fraction=70)
    with pytest.raises(UnknownNameError, match="accuracy"):
        find_differences(lines, metric="acuracy")


def test_a_reference_is_one_line(measured):
    lines = [line for line in gather_configurations(measured)[0] if line.first.fraction == 100]
    assert find_configuration(lines, "dinov2-s, mlp").first.head == "mlp"
    with pytest.raises(UsageError, match=r"3 configurations are named by 'dinov2-s'(.|\n)*whitened"):
        find_configuration(lines, "dinov2-s")
    with pytest.raises(UsageError, match="no configurations are named by 'dinov3,mlp'"):
        find_configuration(lines, "dinov3,mlp")


def test_rows_of_one_group_are_drawn_together_in_reports(make_runs, make_table):
    runs = [*make_runs(wrong=60), *make_runs(wrong=30, head="mlp")]
    table = make_table([0, 1, 2] * 80, groups=[f"g{row // 12}" for row in range(240)], ids=runs[0].sample_ids)
    alone, grouped = (significance_tables(runs, known).frames["ranking"] for known in ([], [table]))
    assert alone["mean"].tolist() == grouped["mean"].tolist()
    assert alone["low"].tolist() != grouped["low"].tolist()


def test_datasets_stand_in_tables_of_their_own(make_runs):
    runs = [*make_runs(), *make_runs(head="mlp"), *make_runs(dataset="other")]
    found = significance_tables(runs, infos=INFOS)
    assert list(found.tables) == ["toy-kind-ranking", "toy-kind-ablations"]
    other = significance_tables([*runs, *make_runs(dataset="other", head="knn")], infos=INFOS)
    assert list(other.tables) == ["other-kind-ranking", *found.tables]


def test_tables_are_written_in_full_and_as_shown(measured, tmp_path):
    found = find_differences(gather_configurations(measured)[0], INFOS)
    files = write_findings(found, tmp_path / "new")
    assert len(files) == 6
    back = pd.read_csv(files["ranking.csv"], float_precision="round_trip")
    assert back["p_holm"].tolist()[1:] == found.frames["ranking"]["p_holm"].tolist()[1:]
    assert r"\bottomrule" in files["ablations.tex"].read_text()


@pytest.fixture
def store(dict_store, make_table, measured):
    """A store that knows the dataset and keeps the runs."""
    first = measured[0]
    dict_store.put_dataset(make_table(first.truth, ids=first.sample_ids, classes=first.classes))
    for number, run in enumerate(measured):
        save_run(dict_store, RUNS, f"{number:04d}", run)
    dict_store.find = lambda name: []
    dict_store.path = "elsewhere.zarr"
    return dict_store


def test_runs_of_a_store_are_compared(store, measured, tmp_path, reporter):
    for number, run in enumerate(measured[-3:]):
        save_run(store, TRAINED, f"{number:04d}", replace(run, head="finetune:lora", key="tuned"))
    found = compare_stored(store, "toy", reporter, output=tmp_path)
    assert (found.dataset, found.scheme) == ("toy", "kind")
    assert [row["head"] for row in found.rows["ranking"]] == ["mlp", "linear", "finetune:lora", "whitened"]
    assert found.rows["ranking"][0]["p"] is None
    values = [value for row in found.rows["ranking"] for value in row.values() if isinstance(value, float)]
    assert values
    assert all(map(math.isfinite, values))
    assert found.files["ranking.csv"].exists()
    assert "finetune:lora" in found.tables[0]
    shown = to_text(found)
    assert shown.startswith("toy (kind)\n\nmacro-F1, mean over 3 runs")
    assert shown.endswith("learning-curves.tex")


def _without_first_row(run):
    rows = {name: getattr(run, name)[1:] for name in ("sample_ids", "truth", "probabilities")}
    return replace(run, head="knn", **rows)


def test_runs_on_other_rows_are_told(store, measured, reporter):
    for number, run in enumerate(measured[:3]):
        save_run(store, RUNS, f"old {number}", _without_first_row(run))
    found = compare_stored(store, "toy", reporter)
    assert found.remarks == ("3 runs were tested on other rows than most, and left out.",)


def test_a_store_without_runs_gives_the_command(store, reporter):
    store.entries.clear()
    with pytest.raises(
        ProbeError, match=r"there are no runs to compare.*Embed the images: skyprobe extract toy -b dinov2-s"
    ):
        compare_stored(store, "toy", reporter)


def test_runs_on_labels_of_another_day_are_left_out_and_told(store, measured, reporter):
    table = store.dataset("toy")
    labels = table.labels["kind"].copy()
    labels[0] = (labels[0] + 1) % 3
    store.put_dataset(replace(table, labels={"kind": labels}))
    with pytest.raises(ProbeError, match="there are no runs to compare"):
        compare_stored(store, "toy", reporter)
    for number, run in enumerate(measured[:3]):
        save_run(store, RUNS, f"new {number}", replace(run, truth=labels))
    found = compare_stored(store, "toy", reporter)
    assert found.remarks == (f"{len(measured)} runs were tested on labels that have changed since, and left out.",)


def test_the_split_is_in_every_caption_and_frame(measured):
    told = "split given by the dataset: 600 train, 0 valid, 240 test"
    lines = gather_configurations([replace(run, split=told) for run in measured])[0]
    found = find_differences(lines, INFOS)
    assert all(
        "Split given by the dataset: 600 train, 0 valid, 240 test." in one.caption for one in found.tables.values()
    )
    assert all(set(frame["split"]) == {told} for frame in found.frames.values())


def test_one_pair_has_one_verdict_in_ranking_ablations_and_advice(make_runs):
    """The best is a linear head, so that ranking, ablations and advice all compare with it."""
    runs = [*make_runs(wrong=40), *make_runs(wrong=42, head="mlp")]
    runs += [run for number in range(30) for run in make_runs(wrong=41, head=f"h{number:02d}")]
    configurations, _ = gather_configurations(runs)
    found = find_differences(configurations, INFOS)
    ranked = found.frames["ranking"].set_index("head").loc["mlp"]
    (ablation,) = found.frames["ablations"].to_dict("records")
    assert ranked["tied"] == "yes"
    assert (ablation["p"], ablation["p_holm"]) == (ranked["p"], ranked["p_holm"])
    assert ranked["p"] < 0.05 < ranked["p_holm"], "alone it would be told"
    assert ablation["comparisons"] == ranked["comparisons"] == 31
    assert "*" not in found.tables["ablations"].frame["dinov2-s"][0]
    advice = {one.topic: one for one in draw(Evidence("data", "kind", configurations, tuple(INFOS)), None)}
    assert "makes no difference that can be told" in advice["an MLP"].sentence
    assert advice["comparisons"].sentence.startswith("31 comparisons of ranking, ablations and advice")
