"""Folds and held-out rows: stratified, whole groups, and never all rows of a class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.heads.folds import draw_folds, hold_out, place_units

SEEDS = st.integers(0, 999)


@st.composite
def labelled(draw):
    """Class index and group of some rows; groups may straddle classes."""
    n = draw(st.integers(2, 80))
    rng = np.random.default_rng(draw(SEEDS))
    targets = np.unique(rng.integers(0, draw(st.integers(1, 5)), n), return_inverse=True)[1]
    return targets, rng.integers(0, draw(st.integers(1, n)), n)


@given(labelled(), st.integers(2, 10), SEEDS, st.booleans())
def test_folds_hold_every_row_once_and_whole_groups_and_leave_every_class(rows, most, seed, grouped):
    targets, groups = rows
    folds = draw_folds(targets, most, np.random.default_rng(seed), groups if grouped else None)
    assert len(folds) <= most
    assert len(folds) != 1
    assert (folds.sum(axis=0) <= 1).all()
    for held in folds:
        assert held.any()
        assert set(targets[~held]) == set(targets)
        assert not grouped or not set(groups[held]) & set(groups[~held])
    if not grouped and (fewest := np.bincount(targets).min()) >= 2:
        assert len(folds) == min(most, fewest)
        assert (folds.sum(axis=0) == 1).all()
        counts = np.stack([np.bincount(targets[held], minlength=targets.max() + 1) for held in folds])
        assert (np.ptp(counts, axis=0) <= 1).all()


@given(labelled(), SEEDS, st.booleans())
def test_a_share_of_every_class_is_held_out_and_some_of_it_stays(rows, seed, grouped):
    targets, groups = rows
    held = hold_out(targets, 0.15, np.random.default_rng(seed), groups if grouped else None)
    assert set(targets[~held]) == set(targets)
    if grouped:
        assert not set(groups[held]) & set(groups[~held])
    else:
        sizes = np.bincount(targets)
        np.testing.assert_allclose(np.bincount(targets[held], minlength=len(sizes)), 0.15 * sizes, atol=0.5 + 1e-9)


def test_a_class_of_one_group_is_never_held_out():
    targets = np.repeat([0, 1], [40, 6])
    groups = np.r_[np.arange(40), np.full(6, 99)]
    rng = np.random.default_rng(0)
    assert not hold_out(targets, 0.9, rng, groups)[40:].any()
    assert draw_folds(targets, 5, rng, groups).shape == (0, 46)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_seed_decides_the_draw(grouped):
    targets = np.arange(60) % 3
    groups = np.arange(60) // 2 if grouped else None
    first, again, other = (draw_folds(targets, 5, np.random.default_rng(seed), groups) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_unit_stands_at_the_middle_of_its_rows_and_counts_as_of_its_most_frequent_class():
    targets = np.array([0, 0, 0, 1, 1, 0])
    unit = np.array([0, 0, 1, 2, 2, 2])
    np.testing.assert_allclose(place_units(unit, np.array([5, 9, 1]), targets), [1 / 3, 5 / 6, 1 / 2])
