from __future__ import annotations

import numpy as np
import pytest

from featurestore.errors import FinetuneError
from finetune.data.rows import choose_rows, usable_rows
from probes.heads.mlp import HELD_OUT
from probes.sweep.splits import order_rows, split_rows


@pytest.mark.parametrize("fraction", [10, 50, 100])
@pytest.mark.parametrize("seed", [0, 3])
def test_rows_are_those_of_the_probes(make_sky, fraction, seed):
    table = make_sky(40, 10, 10).table
    rows, split = choose_rows(table, None, fraction, seed), split_rows(table)
    expected, _ = order_rows(table, split.train, None, seed).divide(fraction)
    np.testing.assert_array_equal(rows.train, expected)
    np.testing.assert_array_equal(rows.valid, split.valid)
    np.testing.assert_array_equal(rows.test, split.test)
    assert rows.validation == "split"
    assert not len(rows.unlabelled)


def test_without_validation_rows_some_of_the_fraction_are_held_out(make_sky):
    table = make_sky(80, 0, 20).table
    rows = choose_rows(table, None, 50, 1)
    expected, _ = order_rows(table, split_rows(table).train, None, 1).divide(50)
    assert rows.validation == "held out"
    assert sorted([*rows.train, *rows.valid]) == sorted(expected)
    assert len(rows.valid) == round(HELD_OUT * 40)
    assert np.bincount(table.labels["sources"][rows.valid]).tolist() == [3, 3]


def test_held_out_rows_keep_groups_whole(make_sky):
    groups = np.array([f"g{row // 4}" for row in range(100)])
    rows = choose_rows(make_sky(80, 0, 20, groups=groups).table, None, 100, 0)
    assert len(rows.valid)
    assert not set(groups[rows.train]) & set(groups[rows.valid])


def test_a_training_that_never_stops_early_learns_from_the_whole_fraction(make_sky):
    rows = choose_rows(make_sky(40, 0, 10).table, None, 50, 0, stops_early=False)
    assert (len(rows.train), len(rows.valid), rows.validation) == (20, 0, "none")


def test_validation_rows_of_classes_that_are_not_learnt_are_left_out(make_sky):
    labels = np.array([0, 1] * 10 + [0, 1, 2, 2] + [0, 1])
    sky = make_sky(20, 4, 2, labels={"sources": labels}, classes={"sources": ("one", "two", "three")})
    np.testing.assert_array_equal(choose_rows(sky.table, None, 100, 0).valid, [20, 21])


def test_unlabelled_rows_are_the_hidden_ones_and_those_without_a_label(make_sky):
    labels = np.arange(60) % 2
    labels[[0, 1, 41, 51]] = -1  # two of train, one of valid, one of test
    table = make_sky(40, 10, 10, labels={"sources": labels}).table
    rows = choose_rows(table, None, 25, 0, unlabelled=True)
    assert set(rows.train) | set(rows.unlabelled) == set(range(40))
    assert not set(rows.train) & set(rows.unlabelled)
    assert {0, 1} <= set(rows.unlabelled)


def test_no_row_of_a_group_of_the_test_split_is_unlabelled(make_sky):
    labels, groups = np.arange(60) % 2, np.array([f"g{row}" for row in range(60)])
    labels[[0, 1]] = -1
    groups[0] = "g55"
    table = make_sky(40, 10, 10, labels={"sources": labels}, groups=groups).table
    assert set(choose_rows(table, None, 100, 0, unlabelled=True).unlabelled) == {1}


def test_no_unlabelled_rows_is_an_error(make_sky):
    with pytest.raises(FinetuneError, match="100 % of the labels hide none, and no training row lacks one"):
        choose_rows(make_sky().table, None, 100, 0, unlabelled=True)


def test_the_digest_tells_uses_apart(make_sky):
    table = make_sky(40, 0, 10).table
    digests = {
        choose_rows(table, None, fraction, seed, stops_early=stops).digest
        for fraction, seed, stops in [(50, 0, True), (50, 0, False), (50, 1, True), (100, 0, True)]
    }
    assert len(digests) == 4


def test_images_of_use_are_labelled_or_of_the_training_split(make_sky):
    labels = np.arange(12) % 2
    labels[[1, 5, 9]] = -1
    np.testing.assert_array_equal(
        usable_rows(make_sky(4, 4, 4, labels={"sources": labels}).table), [0, 1, 2, 3, 4, 6, 7, 8, 10, 11]
    )
