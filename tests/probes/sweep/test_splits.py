from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.errors import LabelMismatchError, ProbeError, UnknownNameError
from featurestore.samples import UNLABELLED
from probes.sweep.splits import (
    check_fractions,
    describe_parts,
    describe_split,
    divide_rows,
    name_parts,
    order_rows,
    split_rows,
)

RELAXED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
PERCENTS = (1, 7, 10, 30, 50, 99, 100)

label_lists = st.lists(st.integers(0, 3), min_size=8, max_size=120)


def ids_of(table, rows):
    return {table.sample_ids[row] for row in rows}


def labelled(table):
    return np.flatnonzero(table.labels["kind"] != UNLABELLED)


def test_a_given_split_is_kept_as_it_is(make_table):
    splits = ["test", "train", "train", "valid", "", "test", "test", "valid", "train", "train"]
    split = split_rows(make_table([0, 1, 0, 1, 0, 1, -1, 0, 1, 0], splits=splits))
    assert split.test.tolist() == [0, 5]
    assert split.valid.tolist() == [3, 7]
    assert split.train.tolist() == [1, 2, 8, 9]


def test_the_given_test_split_does_not_depend_on_the_seed(make_table):
    table = make_table([0, 1] * 20, splits=["train"] * 30 + ["test"] * 10)
    assert split_rows(table, seed=0).test.tolist() == split_rows(table, seed=1).test.tolist() == list(range(30, 40))


def test_own_split_is_80_20_and_another_seed_gives_another(make_table):
    table = make_table([0] * 50 + [1] * 50)
    first, again, other = (split_rows(table, seed=seed) for seed in (0, 0, 1))
    assert len(first.train) == 80
    assert np.bincount(table.labels["kind"][first.test]).tolist() == [10, 10]
    assert first.test.tolist() == again.test.tolist() != other.test.tolist()


def test_valid_rows_stay_valid_when_the_test_rows_are_carved_out_of_train(make_table):
    table = make_table([0, 1] * 20, splits=["train"] * 30 + ["valid"] * 10)
    split = split_rows(table)
    assert split.valid.tolist() == list(range(30, 40))
    assert sorted([*split.train, *split.test]) == list(range(30))
    assert len(split.test) == 6


@RELAXED
@given(labels=label_lists, data=st.data())
def test_own_split_is_disjoint_complete_stratified_and_blind_to_row_order(make_table, labels, data):
    labels = [0] * 5 + [1] * 5 + labels
    unlabelled = data.draw(st.sets(st.integers(0, len(labels) - 1), max_size=2))
    table = make_table([-1 if row in unlabelled else label for row, label in enumerate(labels)], classes=tuple("abcd"))
    split = split_rows(table)
    assert sorted([*split.train, *split.test]) == labelled(table).tolist()
    kinds = table.labels["kind"]
    for label in set(kinds[labelled(table)]):
        expected = 0.2 * (kinds == label).sum()
        assert abs((kinds[split.test] == label).sum() - expected) <= 0.5 + 1e-9 or (kinds == label).sum() <= 2

    order = np.array(data.draw(st.permutations(range(len(table)))))
    shuffled = table.take(order)
    assert ids_of(shuffled, split_rows(shuffled).test) == ids_of(table, split.test)


@RELAXED
@given(labels=label_lists, seed=st.integers(0, 5), data=st.data())
def test_fractions_are_nested_stratified_and_blind_to_row_order(make_table, labels, seed, data):
    table = make_table(labels, classes=tuple("abcd"))
    kinds, rows = table.labels["kind"], np.arange(len(labels))
    order = order_rows(table, rows, seed=seed)
    shuffled = table.take(np.array(data.draw(st.permutations(range(len(table))))))
    shuffled_order = order_rows(shuffled, rows, seed=seed)
    previous = set()
    for percent in PERCENTS:
        inside, outside = order.divide(percent)
        assert sorted([*inside, *outside]) == rows.tolist()
        assert previous <= set(inside)
        previous = set(inside)
        for label in set(labels):
            n_class, n_inside = (kinds == label).sum(), (kinds[inside] == label).sum()
            assert n_inside >= 1
            assert abs(n_inside - percent / 100 * n_class) <= 0.5 + 1e-9 or n_inside == 1
        names = [table.sample_ids[row] for row in inside]
        assert names == [shuffled.sample_ids[row] for row in shuffled_order.divide(percent)[0]]
    assert previous == set(rows)


@RELAXED
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 14)), min_size=10, max_size=100),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_groups_never_straddle_and_every_class_is_in_every_fraction(make_table, rows, seed, data):
    labels, groups = zip(*rows, strict=True)
    table = make_table(labels, groups=[f"g{group}" for group in groups], classes=tuple("abc"))
    order = order_rows(table, np.arange(len(rows)), seed=seed)
    shuffled = table.take(np.array(data.draw(st.permutations(range(len(table))))))
    shuffled_order = order_rows(shuffled, np.arange(len(rows)), seed=seed)
    previous = set()
    for percent in PERCENTS:
        inside, outside = order.divide(percent)
        assert not set(table.groups[inside]) & set(table.groups[outside])
        assert set(table.labels["kind"][inside]) == set(labels)
        assert previous <= set(inside)
        previous = set(inside)
        names = [table.sample_ids[row] for row in inside]
        assert names == [shuffled.sample_ids[row] for row in shuffled_order.divide(percent)[0]]


def test_rows_without_a_group_stand_alone(make_table):
    table = make_table([0, 1] * 50, groups=["g"] * 10 + [""] * 90)
    inside, _ = order_rows(table, np.arange(100)).divide(50)
    assert len(set(inside) & set(range(10))) in {0, 10}
    assert 35 <= len(set(inside) & set(range(10, 100))) <= 50
    split = split_rows(make_table([0, 1] * 50, groups=[""] * 100, splits=["train"] * 80 + ["test"] * 20))
    assert len(split.test) == 20


def test_a_group_counts_as_of_its_most_frequent_class(make_table):
    # 20 mixed groups, mostly of class 1, and 8 pure ones of class 0: half of each kind make half of the labels
    labels = [0, 1, 1] * 20 + [0, 0, 0] * 8
    table = make_table(labels, groups=[f"g{row // 3}" for row in range(84)])
    for seed in range(10):
        inside, _ = order_rows(table, np.arange(84), seed=seed).divide(50)
        assert (inside >= 60).sum() / 3 in {4, 5}


def test_own_split_keeps_groups_whole(make_table):
    groups = [f"g{row // 3}" for row in range(300)]
    table = make_table([row // 3 % 2 for row in range(300)], groups=groups)
    split = split_rows(table)
    assert not set(table.groups[split.train]) & set(table.groups[split.test])
    assert 54 <= len(split.test) <= 66
    assert np.bincount(table.labels["kind"][split.test]).min() >= 27


def test_seeds_and_purposes_draw_different_subsets(make_table):
    table = make_table([0, 1] * 100)
    rows = np.arange(200)
    subsets = {tuple(sorted(order_rows(table, rows, seed=seed).divide(10)[0])) for seed in range(5)}
    assert len(subsets) == 5
    assert order_rows(table, rows).rows.tolist() != order_rows(table, rows, purpose="other").rows.tolist()


def test_new_samples_leave_the_order_of_the_old_ones(make_table):
    small, large = make_table([0] * 40), make_table([0] * 60)
    old = order_rows(small, np.arange(40)).rows.tolist()
    assert old == [row for row in order_rows(large, np.arange(60)).rows.tolist() if row < 40]


def test_a_class_absent_from_train_is_no_error(make_table):
    table = make_table([0, 1, 0, 1, 2, 0], splits=["train"] * 4 + ["test"] * 2)
    assert split_rows(table).test.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("labels", "splits", "message"),
    [
        ([0] * 8, None, "all training rows are of one class, 'c_0'"),
        ([0, 0, 1], ["train", "train", "test"], "all training rows are of one class"),
        ([0, 1, 2, 3, 1, 0], ["train", "train", "test", "test", "test", "test"], "2 training rows for 4 classes"),
        ([0, 1, -1], ["test", "test", "train"], "no labelled training rows"),
        ([0, 1, 2], None, "no labelled test rows"),
    ],
)
def test_unusable_labels_are_refused(make_table, labels, splits, message):
    with pytest.raises(ProbeError, match=message):
        split_rows(make_table(labels, splits=splits))


def test_a_dataset_without_any_label_is_refused(make_table):
    with pytest.raises(LabelMismatchError, match="no row has a label of scheme 'kind'"):
        split_rows(make_table([-1, -1, -1]))


def test_an_unknown_scheme_offers_the_known_one(make_table):
    with pytest.raises(UnknownNameError, match="Did you mean kind"):
        split_rows(make_table([0, 1]), "kinds")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sizes", [(40, 20), (20, 40), (30, 30), (90, 2, 8)])
def test_of_a_few_large_groups_one_is_for_the_test(make_table, sizes, seed):
    groups = np.repeat([f"g{number}" for number in range(len(sizes))], sizes)
    table = make_table([0, 0, 0, 1] * (sum(sizes) // 4), groups=groups)
    split = split_rows(table, seed=seed)
    assert len(split.train) + len(split.test) == len(table) and len(split.test)
    assert not set(table.groups[split.train]) & set(table.groups[split.test])


def test_given_splits_that_divide_a_group_are_refused(make_table):
    table = make_table([0, 1, 0, 1], splits=["train", "train", "test", "test"], groups=["a", "b", "a", "c"])
    with pytest.raises(LabelMismatchError, match="1 groups have samples in more than one split: a"):
        split_rows(table)


@pytest.mark.parametrize("percents", [(0,), (10, 101), (-5, 10), (12.5,), ()])
def test_impossible_fractions_are_refused(percents):
    with pytest.raises(ProbeError, match="whole percents"):
        check_fractions(percents)


@pytest.mark.parametrize(
    ("splits", "groups", "told"),
    [
        (
            ["train"] * 60 + ["valid"] * 10 + ["test"] * 30,
            None,
            "split given by the dataset: 60 train, 10 valid, 30 test",
        ),
        (
            None,
            None,
            "split drawn (20% of the labelled rows are test rows, stratified, seed 0): 80 train, 0 valid, 20 test",
        ),
        (
            ["train"] * 50 + [""] * 50,
            None,
            "split drawn (20% of the training rows are test rows, stratified, seed 0): 40 train, 0 valid, 10 test",
        ),
        (
            ["train"] * 60 + ["test"] * 40,
            ["a"] * 60 + ["b"] * 40,
            "split given by the dataset, whole groups: 60 train, ",
        ),
        (None, [f"g{row // 2}" for row in range(100)], "stratified, whole groups, seed 0): 80 train, 0 valid, 20 test"),
        (None, [""] * 100, "stratified, seed 0)"),
    ],
)
def test_the_split_is_told(make_table, splits, groups, told):
    labels = [0] * 50 + [1] * 50 if splits is None else [0, 1] * 50
    assert told in describe_split(make_table(labels, splits=splits, groups=groups))


def test_what_is_told_is_what_is_done(make_table):
    table = make_table([0, 1, -1, 0, 1] * 20)
    split, parts = split_rows(table), name_parts(table)
    assert describe_split(table).endswith(f": {len(split.train)} train, 0 valid, {len(split.test)} test")
    assert np.flatnonzero(parts == "train").tolist() == split.train.tolist()
    assert np.flatnonzero(parts == "test").tolist() == split.test.tolist()
    assert set(parts[table.labels["kind"] == UNLABELLED]) == {""}


def test_without_labels_the_parts_are_the_splits(make_table):
    splits = ["train", "test", ""]
    table = make_table([-1] * 3, splits=splits)
    bare = replace(table, labels={}, classes={})
    for one in (table, bare):
        assert name_parts(one).tolist() == splits
        assert describe_parts(one) == "the dataset has no labels, and its own splits are used"


def test_parts_are_those_of_the_probes(make_table):
    table = make_table([0, 1] * 30)
    split, parts = divide_rows(table, "kind"), name_parts(table, "kind")
    for name in ("train", "valid", "test"):
        assert np.flatnonzero(parts == name).tolist() == sorted(getattr(split, name))
    assert describe_parts(table) == describe_split(table)


def test_labelled_rows_that_no_part_takes_are_told(make_table):
    table = make_table([0, 1, -1, 0, 1] * 20, splits=["train"] * 50 + [""] * 20 + ["test"] * 30)
    assert describe_split(table).endswith(": 40 train, 0 valid, 24 test; 16 labelled rows of no split are not used")
    assert (name_parts(table) == "").sum() == 36
