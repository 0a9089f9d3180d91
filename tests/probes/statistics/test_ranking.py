"""Rankings with their ties."""

from __future__ import annotations

from dataclasses import replace

import pytest

from probes.results.tables import to_columns, to_latex
from probes.statistics.configurations import Configuration, gather_configurations
from probes.statistics.ranking import rank, ranking_table
from probes.statistics.significance import adjust_holm


@pytest.fixture
def ranked(make_runs):
    """The best, one that can hardly be told from it, a worse one, and one of other seeds."""
    others = [replace(run, seed=run.seed + 9) for run in make_runs(wrong=99, head="knn")]
    runs = [*make_runs(wrong=90), *make_runs(wrong=30, head="mlp"), *make_runs(wrong=31, head="whitened"), *others]
    return gather_configurations(runs)[0]


def test_the_ranking_marks_ties(ranked):
    table = rank(ranked)
    assert table["head"].tolist() == ["mlp", "whitened", "linear", "knn"]
    assert table["tied"].tolist() == ["-", "yes", "no", "no common seed"]
    assert table["mean"].tolist() == pytest.approx(sorted((line.mean for line in ranked), reverse=True))
    assert (table["low"] < table["mean"]).all()
    assert (table["mean"] < table["high"]).all()
    told = table.iloc[1:3]
    assert told["difference"].tolist() == pytest.approx((told["mean"] - table["mean"][0]).tolist())
    assert told["p_holm"].tolist() == pytest.approx(adjust_holm(told["p"]).tolist())
    assert table.loc[[0, 3], ["difference", "p", "p_holm"]].isna().all(axis=None)
    assert rank(ranked).equals(table)


def test_a_ranking_against_another_reference(ranked):
    (linear,) = [one for one in ranked if one.first.head == "linear"]
    table = rank(ranked, against=linear)
    assert table.set_index("head")["tied"].to_dict() == {
        "mlp": "no", "whitened": "no", "linear": "-", "knn": "no common seed",
    }  # fmt: skip
    assert (table["difference"].dropna() > 0).all()
    assert "difference from linear" in ranking_table(table).caption


def test_a_reference_that_only_its_settings_tell_apart(make_runs):
    runs = [*make_runs(), *make_runs(wrong=40, params={"validation": "rest"})]
    lines = gather_configurations([replace(run, truth=run.truth.copy()) for run in runs])[0]
    assert rank(lines, against=lines[0]).set_index("settings")["tied"].to_dict() == {
        '{"validation": "rest"}': "no", "": "-",
    }  # fmt: skip


def test_many_comparisons_make_ties(make_runs):
    """The same difference stands out alone, and no longer among many."""
    one = [*make_runs(wrong=40), *make_runs(wrong=42, head="mlp")]
    many = [run for number in range(40) for run in make_runs(wrong=41, head=f"h{number:02d}")]
    alone, among = (rank(gather_configurations(runs)[0]).set_index("head").loc["mlp"] for runs in (one, [*one, *many]))
    assert alone["tied"] == "no"
    assert among["p"] == pytest.approx(alone["p"], abs=0.01)
    assert among["tied"] == "yes"


def test_a_ranking_as_it_is_shown(ranked):
    table = ranking_table(rank(ranked))
    assert list(table.frame.columns) == ["head", "macro-F1", "difference", "p (Holm)", "tied"]
    assert "3 runs" in table.caption
    assert "240 test rows" in table.caption
    assert "2 comparisons" in table.caption
    assert "backbone dinov2-s" in table.caption
    assert "whitened" in to_columns(table.frame)
    assert r"\toprule" in to_latex(table)


def test_settings_are_shown_where_nothing_else_tells_rows_apart(make_runs):
    runs = [*make_runs(), *make_runs(wrong=40, params={"validation": "rest"})]
    table = ranking_table(rank(gather_configurations(runs)[0]))
    assert table.frame["settings"].tolist() == ['{"validation": "rest"}', ""]


def test_a_line_of_one_run(make_runs):
    assert rank([Configuration(tuple(make_runs(seeds=1)))])["tied"].tolist() == ["-"]


def test_what_intervals_are_over_is_told_of_each_row(make_runs, ranked):
    assert set(rank(ranked)["interval_over"]) == {"rows and seeds"}
    assert "over 240 test rows and over seeds." in ranking_table(rank(ranked)).caption
    mixed = gather_configurations([*make_runs(wrong=90), *make_runs(wrong=30, head="mlp", seeds=1)])[0]
    assert rank(mixed)["interval_over"].tolist() == ["rows", "rows and seeds"]
    table = ranking_table(rank(mixed))
    assert table.frame["interval over"].tolist() == ["rows", "rows and seeds"]
    assert "mean over 1 to 3 runs" in table.caption


def test_cells_are_the_numbers_of_the_ranking(ranked):
    frame = rank(ranked, confidence=0.9)
    cells, (best, second, *_) = ranking_table(frame, 0.9).frame, frame.itertuples()
    assert cells["macro-F1"][0] == f"{best.mean:.3f} [{best.low:.3f}, {best.high:.3f}]"
    told = f"{second.difference:+.3f} [{second.difference_low:+.3f}, {second.difference_high:+.3f}]"
    assert cells["difference"].tolist()[:2] == ["-", told]
    assert cells["p (Holm)"].tolist()[1:] == [f"{second.p_holm:.2g}", f"{frame['p_holm'][2]:.2g}", "-"]
    assert "90% intervals" in ranking_table(frame, 0.9).caption
    assert "difference from the best, which these same test rows chose" in ranking_table(frame, 0.9).caption
    wider = rank(ranked)
    assert (wider["high"] - wider["low"] > frame["high"] - frame["low"]).all()


def test_a_ranking_by_accuracy(ranked):
    table = rank(ranked, "accuracy")
    assert table["mean"].tolist() == pytest.approx([1 - wrong / 240 for wrong in (30, 31, 90, 99)])
    assert set(table["metric"]) == {"accuracy"}
    assert (table["seeds"].tolist(), table["n_test"].tolist()) == ([3] * 4, [240] * 4)
    assert table["comparisons"].tolist() == [2] * 4
