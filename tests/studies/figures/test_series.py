"""Series of scores, against means by hand; what looks alike is alike."""

import numpy as np
import pytest

from studies.figures.series import (
    by_subject,
    class_series,
    count_classes,
    count_images,
    grouped_series,
    is_baseline,
    macro_series,
    name_subject,
)


def test_a_series_holds_mean_and_range_over_seeds(make_runs):
    runs = [*make_runs(60), *make_runs(90, fraction=10)]
    (one,) = macro_series(runs)
    assert one.scores["fraction"].tolist() == [10, 100]
    values = [run.scores.macro["f1"] for run in runs[:3]]
    assert one.scores["mean"].iloc[1] == pytest.approx(np.mean(values))
    assert one.bars[:, 1] == pytest.approx([np.mean(values) - min(values), max(values) - np.mean(values)])
    assert (one.bars >= 0).all()


def test_names_tell_what_differs_and_the_key_only_where_nothing_else_does(make_runs):
    other = macro_series([*make_runs(60), *make_runs(60, backbone="resnet-50")])
    assert [one.name for one in other] == ["dinov2-s", "resnet-50"]
    twins = macro_series([*make_runs(60, key="a"), *make_runs(60, key="b")])
    assert [one.name for one in twins] == ["dinov2-s, full-224, a", "dinov2-s, full-224, b"]


def test_networks_from_scratch_have_a_look_of_their_own(make_runs):
    frozen, scratch = macro_series([*make_runs(60), *make_runs(90, head="finetune:scratch")])
    assert (frozen.is_baseline, scratch.is_baseline) == (False, True)
    assert scratch.label(heads=False).endswith("from scratch")
    assert frozen.style["color"] != scratch.style["color"]
    assert is_baseline("detect:scratch")


def test_rows_of_grouped_series_are_features_and_gaps_are_nan(make_runs):
    runs = [*make_runs(60), *make_runs(60, scheme="size"), *make_runs(80, backbone="resnet-50")]
    series, rows = grouped_series(runs, "scheme")
    assert rows == ["dinov2-s", "resnet-50"]
    assert [one.name for one in series] == ["kind", "size"]
    assert series[1].scores["mean"].isna().tolist() == [False, True]
    classes, _ = grouped_series(make_runs(60), "class")
    assert [one.name for one in classes] == ["round", "bent", "double"]
    assert len(class_series(make_runs(60))[0].scores) == 3


def test_subjects_and_counts(make_runs):
    runs = [*make_runs(60), *make_runs(60, dataset="other"), *make_runs(60)]
    assert [[run.dataset for run in part] for part in by_subject(runs)] == [["toy"] * 6, ["other"] * 3]
    assert name_subject(runs[0]) == "toy (kind)"
    assert count_images(runs) == f"{len(runs[0].truth)}"
    support = np.bincount(runs[0].truth)
    assert count_classes(runs[0])[0] == f"round ({support[0]})"
