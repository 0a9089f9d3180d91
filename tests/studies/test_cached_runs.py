"""Runs that were tested on labels of another day are not shown beside those of today."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finetune import run_cache as trainings
from probes.sweep.cache import RUNS, save_run
from studies.cached_runs import part_outdated, probed_runs, trained_runs


@pytest.fixture
def table(make_table):
    return make_table([0, 1] * 10, classes=("a", "b"))


@pytest.fixture
def run(make_grid, table):
    """A run on the last six rows."""
    (made,) = make_grid(fractions=(100,), seeds=1, classes=("a", "b"), truth=np.array([0, 1] * 3))
    return replace(made, sample_ids=table.sample_ids[-6:])


def test_runs_come_from_probes_and_from_trainings(dict_store, table, run):
    dict_store.put_dataset(table)
    save_run(dict_store, RUNS, "1", run)
    trainings.save_run(dict_store, "2", replace(run, head="finetune:head"), table)
    assert [one.head for one in probed_runs(dict_store, table, "kind")] == [run.head]
    assert [one.head for one in trained_runs(dict_store, table, "kind")] == ["finetune:head"]


def test_a_run_agrees_with_the_table_that_it_was_made_on(run, table):
    assert part_outdated([run], table, "kind") == ([run], [])


def test_another_numbering_of_the_same_classes_is_no_change(run, table):
    turned = replace(table, labels={"kind": 1 - table.labels["kind"]}, classes={"kind": ("b", "a")})
    assert part_outdated([run], turned, "kind") == ([run], [])


def test_one_other_label_or_a_lost_row_makes_a_run_outdated(run, table):
    other = table.labels["kind"].copy()
    for label in (0, -1):
        other[-1] = label
        assert part_outdated([run], replace(table, labels={"kind": other}), "kind") == ([], [run])
    assert part_outdated([run], table.take(np.arange(19)), "kind") == ([], [run])


def test_labels_of_training_rows_are_not_known_and_do_not_count(run, table):
    other = table.labels["kind"].copy()
    other[0] = 1
    assert part_outdated([run], replace(table, labels={"kind": other}), "kind") == ([run], [])


def test_schemes_of_mapping_files_are_not_judged(run, table):
    assert part_outdated([run], table, "of a file") == ([run], [])
