import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from featurestore.errors import ProbeError, StoreWriteError, UsageError
from probes.results.run import (
    IDENTITY,
    Run,
    format_table,
    prediction_frame,
    summarise,
    to_frame,
    to_latex,
    write_frame,
    write_results,
)


def make_run(*, seed=0, fraction=100, head="linear", variant="full-224", **changes):
    rng = np.random.default_rng([seed, fraction, len(head), len(variant)])
    truth = np.arange(60) % 3
    probabilities = rng.dirichlet([1, 1, 1], 60) + np.eye(3)[truth] * 0.5
    fields = {
        "dataset": "toy_set",
        "variant": variant,
        "backbone": "efficientnet-lite0",
        "pooling": "avgpool",
        "key": {"full-224": "0123456789ab"}.get(variant, "ba9876543210"),
        "scheme": "kind",
        "head": head,
        "protocol": "cv",
        "fraction": fraction,
        "seed": seed,
        "n_train": 6 * fraction,
        "n_valid": 0,
        "n_features": 8,
        "classes": ("FRI", "FR_II", "Bent 50%"),
        "sample_ids": tuple(f"s{row}" for row in range(60)),
        "truth": truth,
        "probabilities": (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32),
        "params": {"C": 0.1, "grid": np.array([0.1, 1.0])},
        "seconds": 0.25,
        "split": "split given by the dataset: 600 train, 0 valid, 60 test",
    }
    return Run(**(fields | changes))


@pytest.fixture
def demo_runs():
    """The size of the demo: 2 variants x 4 heads x 4 fractions x 3 seeds."""
    return [
        make_run(seed=seed, fraction=fraction, head=head, variant=variant)
        for variant in ("full-224", "crop0.5-224")
        for head in ("linear", "whitened", "mlp", "knn")
        for fraction in (10, 30, 50, 100)
        for seed in range(3)
    ]


def test_tidy_rows_hold_every_metric_of_every_class():
    run = make_run()
    frame = to_frame([run])
    values = frame.set_index(["metric", "class"])["value"]
    assert len(frame) == 5 * 3 + 4 + 5
    assert not values.index.has_duplicates
    assert values["f1", "macro"] == pytest.approx(f1_score(run.truth, run.predicted, average="macro"))
    assert values["f1", "FR_II"] == pytest.approx(f1_score(run.truth, run.predicted, average=None)[1])
    assert values["accuracy", "all"] == pytest.approx(accuracy_score(run.truth, run.predicted))
    assert values["support", "all"] == values["support"][list(run.classes)].sum() == 60


def test_every_tidy_row_states_its_provenance():
    frame = to_frame([make_run(), make_run(seed=1)])
    assert frame.loc[:, list(IDENTITY)].drop_duplicates()["seed"].tolist() == [0, 1]
    assert (frame["n_test"] == 60).all()
    assert (frame["n_train"] == 600).all()
    assert json.loads(frame["params"][0]) == {"C": 0.1, "grid": [0.1, 1.0]}
    assert frame["value"].dtype == np.float64


def test_a_class_called_macro_keeps_its_own_row():
    frame = to_frame([make_run(classes=("macro", "all", "other"))])
    assert len(frame[frame["metric"] == "f1"]) == 4


def test_summary_gives_mean_min_max_over_seeds():
    runs = [make_run(seed=seed) for seed in range(3)] + [make_run(fraction=10)]
    summary = summarise(runs)
    scores = [f1_score(run.truth, run.predicted, average="macro") for run in runs[:3]]
    few, many = summary.iloc[0], summary.iloc[1]
    assert (few["fraction"], few["runs"], many["fraction"], many["runs"]) == (10, 1, 100, 3)
    assert [many["mean"], many["min"], many["max"]] == pytest.approx([np.mean(scores), min(scores), max(scores)])
    accuracies = [accuracy_score(run.truth, run.predicted) for run in runs[:3]]
    assert many["accuracy"] == pytest.approx(np.mean(accuracies))
    assert (many["metric"], many["interval"]) == ("macro-F1", "min-max")


def test_summary_is_sorted_and_blind_to_the_order_of_runs(demo_runs):
    summary = summarise(demo_runs)
    assert len(summary) == 2 * 4 * 4
    pd.testing.assert_frame_equal(summary, summarise(demo_runs[::-1]))


def test_features_of_different_keys_are_never_averaged():
    assert summarise([make_run(), make_run(seed=1, key="ba9876543210")])["runs"].tolist() == [1, 1]


def test_csv_and_parquet_hold_equal_numbers(demo_runs, tmp_path):
    paths = write_results(demo_runs, tmp_path / "new" / "folder")
    csv = pd.read_csv(paths["results.csv"], float_precision="round_trip")
    parquet = pd.read_parquet(paths["results.parquet"])
    pd.testing.assert_frame_equal(csv, parquet, check_exact=True)
    pd.testing.assert_frame_equal(parquet, to_frame(demo_runs), check_exact=True)
    summary = pd.read_csv(paths["summary.csv"], float_precision="round_trip")
    pd.testing.assert_frame_equal(summary, summarise(demo_runs), check_exact=True)


def test_predictions_reproduce_the_scores(demo_runs, tmp_path):
    frame = pd.read_parquet(write_results(demo_runs, tmp_path)["predictions.parquet"])
    assert len(frame) == 60 * len(demo_runs)
    one = frame.query("head == 'mlp' and fraction == 30 and seed == 1 and variant == 'full-224'")
    run = make_run(seed=1, fraction=30, head="mlp")
    assert one["sample_id"].tolist() == list(run.sample_ids)
    assert one[["p_FRI", "p_FR_II", "p_Bent 50%"]].to_numpy().tobytes() == run.probabilities.tobytes()
    assert f1_score(one["truth"], one["predicted"], average="macro") == pytest.approx(
        f1_score(run.truth, run.predicted, average="macro")
    )


def test_predictions_of_other_classes_share_the_file():
    other = make_run(classes=("x", "y", "z"), dataset="other")
    frame = prediction_frame([make_run(), other])
    assert frame.loc[frame["dataset"] == "other", "p_FRI"].isna().all()
    assert frame.loc[frame["dataset"] == "other", "p_x"].notna().all()


def test_latex_is_escaped_and_states_runs_metric_and_interval(demo_runs):
    runs = [replace(run, head="my_head" if run.head == "mlp" else run.head) for run in demo_runs]
    text = to_latex(summarise(runs))
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    assert r"\caption{macro-F1" in text
    assert "[min-max]" in text
    assert "runs: 3" in text
    assert r"toy\_set" in text
    assert r"my\_head" in text
    assert r"100 \%" in text
    assert not re.search(r"(?<!\\)[%_]", text)


def test_the_text_table_fits_the_terminal_and_has_fractions_as_columns(demo_runs):
    summary = summarise(demo_runs)
    caption, shared, _, header, rule, *rows = format_table(summary).splitlines()
    assert all(len(line) <= 120 for line in [header, rule, *rows])
    assert header.split() == ["variant", "head", "10", "%", "30", "%", "50", "%", "100", "%"]
    assert len(rows) == 8
    line = summary.query("variant == 'full-224' and head == 'knn' and fraction == 30").iloc[0]
    cell = f"{line['mean']:.3f} [{line['min']:.3f}-{line['max']:.3f}]"
    assert cell in next(row for row in rows if row.startswith("full-224") and "knn" in row)
    assert "macro-F1" in caption
    assert "runs: 3" in caption
    assert "backbone efficientnet-lite0" in shared
    assert "key" not in shared


def test_keys_are_shown_where_nothing_else_tells_rows_apart():
    text = format_table(summarise([make_run(), make_run(key="ba9876543210")]))
    assert re.search(r"^0123456789ab\s+linear", text, flags=re.MULTILINE)
    assert re.search(r"^ba9876543210\s+linear", text, flags=re.MULTILINE)


def test_missing_cells_and_unequal_runs_are_shown_as_such():
    runs = [make_run(seed=0), make_run(seed=1), make_run(head="knn", fraction=10)]
    text = format_table(summarise(runs))
    assert "runs: 1 to 2" in text
    assert re.search(r"^knn\s+0\.\d{3} \[\S+\]\s+-$", text, flags=re.MULTILINE)


def test_no_runs_are_an_error(tmp_path):
    with pytest.raises(ProbeError, match="there are no results to write"):
        write_results([], tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match=r"file cannot be written.*give another folder"):
        write_results([make_run()], tmp_path / "file" / "folder")


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    paths = write_results([make_run()], tmp_path)
    before = {name: path.read_bytes() for name, path in paths.items()}

    def full(self, path, **options):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(StoreWriteError, match="No space left on device"):
        write_results([make_run(seed=5)], tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == before["results.csv"]
    assert {path.name for path in tmp_path.iterdir()} == set(before)


@pytest.mark.parametrize(("name", "read"), [("t.csv", pd.read_csv), ("t.parquet", pd.read_parquet)])
def test_a_table_is_written_in_the_format_of_its_suffix(tmp_path, name, read):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    pd.testing.assert_frame_equal(read(write_frame(frame, tmp_path / "new" / name)), frame)


def test_another_table_format_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"unknown table format '.xlsx'.*Use .csv or .parquet"):
        write_frame(pd.DataFrame(), tmp_path / "t.xlsx")


def test_all_metrics_of_a_run_are_in_the_tidy_rows():
    rows = to_frame([make_run()])
    found = {name: set(part["class"]) for name, part in rows.groupby("metric")}
    names = set(make_run().classes)
    for metric in ("precision", "recall", "f1", "auroc"):
        assert found.pop(metric) == names | {"macro"}
    for metric in ("accuracy", "balanced_accuracy", "log_loss", "ece"):
        assert found.pop(metric) == {"all"}
    assert found == {"support": names | {"all"}}


def test_tables_name_the_classes_without_test_rows():
    truth = np.arange(60) % 2
    run = make_run(truth=truth)
    assert run.untested == ("Bent 50%",)
    summary = summarise([run, make_run(head="mlp")])
    assert summary.set_index("head")["untested"].to_dict() == {"linear": "Bent 50%", "mlp": "-"}
    caption = format_table(summary).splitlines()[0]
    assert caption.endswith(
        "Without test rows, and so in no macro mean (scikit-learn counts them as 0 once predicted): Bent 50%."
    )
    assert "Without test rows" not in format_table(summarise([make_run()]))
    predicted = np.where(np.arange(60) == 0, 2, truth)
    scored = make_run(truth=truth, probabilities=np.eye(3, dtype=np.float32)[predicted])
    assert f1_score(truth, predicted, average="macro") == pytest.approx(scored.scores.macro["f1"] * 2 / 3)


def test_a_class_that_is_called_macro_is_not_the_mean(demo_runs):
    named = [replace(run, classes=("macro", "all", "c")) for run in demo_runs]
    pd.testing.assert_frame_equal(summarise(named), summarise(demo_runs))
    line = summarise(named[:1]).iloc[0]
    expected = f1_score(named[0].truth, named[0].predicted, average="macro")
    assert (line["runs"], line["mean"]) == (1, pytest.approx(expected))
