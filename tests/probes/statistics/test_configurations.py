"""Lines of runs, and their citation."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from sklearn.metrics import recall_score

from probes.statistics.configurations import Configuration, find_changes, gather_configurations
from probes.sweep.cache import RUNS, cached_runs
from probes.sweep.sweep import cached_sweep


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


def test_runs_from_other_training_labels_give_way_to_those_of_today(toy_features, dict_store, fake_heads):
    """A catalogue whose training labels were mended: the runs from before are still cached, on the same test rows."""
    labels = toy_features.table.labels["kind"].copy()
    labels[20:100] = np.roll(labels[20:100], 1)
    before = replace(toy_features, table=replace(toy_features.table, labels={"kind": labels}))
    cached_sweep(dict_store, before, ["centroids", "stopping"], fractions=[100], seeds=6)
    new = cached_sweep(dict_store, toy_features, ["centroids"], fractions=[100], seeds=4)
    runs = cached_runs(dict_store, RUNS, ["toy"])
    assert len(runs) == 16
    found, _ = gather_configurations(runs, toy_features.table)
    by_head = {one.first.head: one for one in found}
    assert [run.seed for run in by_head["centroids"].runs] == [0, 1, 2, 3]
    for run, expected in zip(by_head["centroids"].runs, new, strict=True):
        np.testing.assert_array_equal(run.probabilities, expected.probabilities)
    assert len(by_head["stopping"].runs) == 6  # nothing newer is known of it


def test_runs_on_a_scheme_of_a_mapping_file_are_all_kept(make_runs, make_table):
    found, _ = gather_configurations(make_runs(scheme="of a file"), make_table([0, 1] * 20))
    assert [len(one.runs) for one in found] == [3]


def test_a_configuration_says_what_was_asked_for_and_what_it_scores(make_runs):
    (one,), _ = gather_configurations(make_runs(params={"options": {"epochs": 9}, "C": 0.1}))
    assert one.settings == '{"options": {"epochs": 9}}'
    assert one.name == f"dinov2-s, full-224, cls, dinov2-s/full-224, linear, cv, {one.settings}"
    assert one.score("accuracy") == pytest.approx(0.75)
    recalls = [recall_score(run.truth, run.predicted, average="macro") for run in one.runs]
    assert one.score("recall") == pytest.approx(np.mean(recalls))
    with pytest.raises(FrozenInstanceError):
        one.groups = ()
    (tuned,), _ = gather_configurations(make_runs(head="finetune:lora", params={"options": {"epochs": 9}}))
    assert (one.trained, tuned.trained, tuned.settings) == (False, True, "")


def test_changes_are_fields_and_settings(make_runs):
    (one,), (other,) = (
        gather_configurations(make_runs(**changes))[0]
        for changes in ({}, {"head": "mlp", "fraction": 10, "params": {"validation": "rest"}})
    )
    assert find_changes(one, one) == set()
    assert find_changes(one, other) == {"head", "fraction", "settings"}


def test_runs_vary_by_what_they_predict(make_runs):
    runs = make_runs()
    twin = [runs[0], replace(runs[0], seed=1, probabilities=0.9 * runs[0].probabilities), replace(runs[1], seed=2)]
    one = Configuration(tuple(twin))
    assert one.varies()
    assert one.varies([0, 2])
    assert not one.varies([0, 1])
    assert not one.varies([2])


def test_seeds_are_in_order_of_their_number(make_runs):
    runs = [replace(run, seed=seed) for run, seed in zip(make_runs(), (10, 9, 100), strict=True)]
    (one,), _ = gather_configurations(runs)
    assert [run.seed for run in one.runs] == [9, 10, 100]


def test_a_row_that_the_table_lost_is_in_no_group(make_runs, make_table):
    table = make_table([0, 1] * 20, groups=["a", "b"] * 20, ids=[f"s{row}" for row in range(40)])
    (one,), _ = gather_configurations(make_runs(), table)
    assert one.groups == (*["a", "b"] * 20, *[""] * 200)
    (alone,), _ = gather_configurations(make_runs(), replace(table, groups=None))
    assert alone.groups is None
