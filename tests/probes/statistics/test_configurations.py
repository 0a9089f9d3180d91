"""Lines of runs, and their citation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probes.statistics.configurations import gather_configurations


def test_runs_that_differ_in_their_seed_alone_are_one_line(make_runs):
    lines, elsewhere = gather_configurations([*make_runs(head="mlp"), *make_runs(), *make_runs(fraction=10)])
    assert [(line.first.head, line.first.fraction, len(line.runs)) for line in lines] == [
        ("linear", 10, 3), ("linear", 100, 3), ("mlp", 100, 3),
    ]  # fmt: skip
    assert elsewhere == 0


def test_runs_with_other_options_or_validation_rows_are_other_lines(make_runs):
    runs = [*make_runs(), *make_runs(params={"options": {"epochs": 9}}), *make_runs(params={"validation": "rest"})]
    lines, _ = gather_configurations(runs)
    assert [line.settings for line in lines] == ["", '{"options": {"epochs": 9}}', '{"validation": "rest"}']
    assert '{"validation": "rest"}' in str(lines[2])


def test_of_several_runs_of_one_identity_the_one_with_most_training_rows_counts(make_runs):
    (line,), _ = gather_configurations(
        [*make_runs(wrong=100, n_train=700), *make_runs(wrong=60), *make_runs(wrong=90, n_train=20)]
    )
    assert [run.n_train for run in line.runs] == [800, 800, 800]
    assert line.mean == pytest.approx(0.75, abs=0.01)


def test_runs_on_other_test_rows_than_most_are_left_out_and_counted(make_runs):
    older = [replace(run, sample_ids=run.sample_ids[::-1]) for run in make_runs(head="mlp", seeds=2)]
    relabelled = [replace(run, truth=np.roll(run.truth, 1)) for run in make_runs(head="knn", seeds=1)]
    lines, elsewhere = gather_configurations([*older, *make_runs(), *relabelled])
    assert [line.first.head for line in lines] == ["linear"]
    assert elsewhere == 3


def test_no_runs_are_no_lines():
    assert gather_configurations([]) == ((), 0)


def test_a_line_is_cited_with_all_that_identifies_it(make_runs):
    (line,), _ = gather_configurations(make_runs())
    assert str(line) == (
        "toy (kind): dinov2-s, full-224, cls, head linear, cv, 100 % of the labels (800), seeds 0, 1, 2, 240 test "
        "rows: macro-F1 0.750 [0.750-0.750]"
    )
