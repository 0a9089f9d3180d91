"""Rows that are held out of training rows to choose by: stratified, and whole groups where there are groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.solvers.network import ClassIndex

Mask = NDArray[np.bool_]
Numbers = NDArray[np.integer[Any]]
Positions = NDArray[np.float64]

FEWEST = 2
"""Folds below which nothing can be compared."""


def draw_folds(targets: ClassIndex, most: int, rng: np.random.Generator, groups: Numbers | None = None) -> Mask:
    """Rows held out in turn, each of them once: stratified by class, and no group is held out in part.

    There are no more folds than rows, or groups, of the rarest class. A fold that would leave no row of a class to
    learn from is left out, as a group may hold all of them.

    Args:
        targets: (n,) Class index of each row.
        most: Folds at most.
        rng: Draws them.
        groups: (n,) Group of each row; None: every row stands for itself.

    Returns:
        bool (n_folds, n); no fold where there are not two.
    """
    unit = _number_units(targets, groups)
    pairs = np.unique(np.stack([targets, unit]), axis=1)
    n_folds = min(most, int(np.bincount(pairs[0]).min()))
    if n_folds < FEWEST:
        return np.zeros((0, len(targets)), dtype=bool)
    position = _draw_positions(targets, unit, rng)
    fold = np.minimum((position * n_folds).astype(np.intp), n_folds - 1)
    folds = fold == np.arange(n_folds)[:, None]
    usable = [held.any() and not len(_find_lost(targets, held)) for held in folds]
    found: Mask = folds[usable] if sum(usable) >= FEWEST else folds[:0]
    return found


def hold_out(targets: ClassIndex, share: float, rng: np.random.Generator, groups: Numbers | None = None) -> Mask:
    """Mark a share of the rows of each class, rounded: whole groups, and never all rows of a class; bool (n,)."""
    unit = _number_units(targets, groups)
    held = _draw_positions(targets, unit, rng) < share
    lost = _find_lost(targets, held)
    return held & ~np.isin(unit, unit[np.isin(targets, lost)])


def place_units(unit: Numbers, key: Numbers, targets: Numbers) -> Positions:
    """Position in [0, 1) of each unit among those of its class: every prefix is stratified, within rounding.

    A unit stands at the middle of its rows among the rows of its class, which is the most frequent one of its rows.

    Args:
        unit: (n,) Number of the unit of each row, from 0.
        key: (n_units,) What orders the units of a class.
        targets: (n,) Class index of each row.
    """
    n_classes = int(targets.max(initial=0)) + 1
    pairs, counts = np.unique(unit * n_classes + targets, return_counts=True)
    unit_of_pair, class_of_pair = np.divmod(pairs, n_classes)
    by_count = np.lexsort((class_of_pair, -counts, unit_of_pair))
    main_class = class_of_pair[by_count][np.unique(unit_of_pair[by_count], return_index=True)[1]]
    sizes = np.bincount(unit)
    order = np.lexsort((key, main_class))
    class_size = np.bincount(main_class, weights=sizes, minlength=n_classes)
    before_class = np.cumsum(class_size) - class_size
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    position = np.empty(len(sizes))
    position[order] = (middle - before_class[main_class[order]]) / class_size[main_class[order]]
    return position


def _number_units(targets: ClassIndex, groups: Numbers | None) -> Numbers:
    return np.arange(len(targets)) if groups is None else np.unique(groups, return_inverse=True)[1]


def _draw_positions(targets: ClassIndex, unit: Numbers, rng: np.random.Generator) -> Positions:
    """Position of the unit of each row, the units of a class in random order."""
    return place_units(unit, rng.permutation(int(unit.max()) + 1), targets)[unit]


def _find_lost(targets: ClassIndex, held: Mask) -> ClassIndex:
    """Classes that have no row outside the held-out ones."""
    return np.setdiff1d(targets, targets[~held])
