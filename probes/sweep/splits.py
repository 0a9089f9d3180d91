"""Which rows train, validate and test, and which of the training rows belong to a label fraction.

Every choice depends on sample ids, labels, groups and a seed alone: not on the backbone, not on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import LabelMismatchError, ProbeError, UsageError
from featurestore.samples import UNLABELLED, SampleTable
from probes.heads.folds import place_units

TRAIN_SHARE = 0.8
"""Share of the labelled rows that train when the dataset brings no test split of its own."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Labelled rows by their use; the three are disjoint and ascending.

    Attributes:
        train: int64 (n_train,).
        valid: int64 (n_valid,), may be empty.
        test: int64 (n_test,).
    """

    train: Rows
    valid: Rows
    test: Rows


@dataclass(frozen=True)
class LabelOrder:
    """Training rows in an order of which every label fraction is a prefix.

    Attributes:
        rows: int64 (n,).
        position: float64 (n,), ascending in [0, 1): the share of labels from which on a row belongs to the fraction.
    """

    rows: Rows
    position: NDArray[np.float64]

    def divide(self, percent: int) -> tuple[Rows, Rows]:
        """Rows inside and rows outside the fraction."""
        end = int(np.searchsorted(self.position, percent / 100, side="right"))
        return self.rows[:end], self.rows[end:]


def split_rows(table: SampleTable, scheme: str | None = None, *, seed: int = 0) -> Split:
    """Training, validation and test rows of one label scheme.

    A test split that the dataset brings is kept as it is. Without one, the training rows are divided 80 / 20,
    stratified by class, and so that no group straddles; of a few large groups, at least one is for the test. Rows of
    no split serve for training only in a dataset that marks no row ``train``. Unlabelled rows never enter. A class that
    has test rows but no training rows stays: nothing can predict it, so it scores 0.

    Args:
        table: The samples.
        scheme: Label scheme; the table's default for None.
        seed: Seed of the 80 / 20 split.

    Raises:
        LabelMismatchError: No labels, or a group that straddles the dataset's own splits.
        ProbeError: No training or no test rows, a single class, or fewer training rows than classes.
    """
    split = divide_rows(table, scheme, seed=seed)
    _check_labels(table, table.scheme(scheme), split)
    return split


def divide_rows(table: SampleTable, scheme: str | None = None, *, seed: int = 0) -> Split:
    """The same rows by the same rules, without asking whether a classifier can be fitted on them.

    Raises:
        LabelMismatchError: No labels at all, or a group that straddles the dataset's own splits.
    """
    scheme = table.scheme(scheme)
    valid, test = _labelled(table, scheme, "valid"), _labelled(table, scheme, "test")
    train = _labelled(table, scheme, "train")
    if not len(train):
        train = _labelled(table, scheme, "")
    if not len(test):
        order = order_rows(table, train, scheme, seed, purpose="test split")
        train, test = (np.sort(rows) for rows in _hold_out(order))
    split = Split(train, valid, test)
    _check_groups(table, split)
    return split


def describe_split(table: SampleTable, scheme: str | None = None, *, seed: int = 0) -> str:
    """Where the parts of `divide_rows` come from: ``split given by the dataset: 1,694 train, 0 valid, 404 test``.

    Every command that uses a split shows this line, and every table of results carries it.
    """
    scheme = table.scheme(scheme)
    split = divide_rows(table, scheme, seed=seed)
    unused = len(_labelled(table, scheme, "")) if len(_labelled(table, scheme, "train")) else 0
    beside = f"; {unused:,} labelled rows of no split are not used" if unused else ""
    grouped = ", whole groups" if table.groups is not None and (table.groups != "").any() else ""
    if len(_labelled(table, scheme, "test")):
        how = f"given by the dataset{grouped}"
    else:
        of = "training" if len(_labelled(table, scheme, "train")) else "labelled"
        how = f"drawn ({1 - TRAIN_SHARE:.0%} of the {of} rows are test rows, stratified{grouped}, seed {seed})"
    return f"split {how}: {len(split.train):,} train, {len(split.valid):,} valid, {len(split.test):,} test{beside}"


def describe_parts(table: SampleTable, scheme: str | None = None, *, seed: int = 0) -> str:
    """Where the parts of `name_parts` come from: `describe_split`, or that there are no labels.

    Raises:
        LabelMismatchError: A group straddles the dataset's own splits.
    """
    if not _has_labels(table, scheme):
        return "the dataset has no labels, and its own splits are used"
    return describe_split(table, scheme, seed=seed)


def name_parts(table: SampleTable, scheme: str | None = None, *, seed: int = 0) -> NDArray[np.str_]:
    """What each row is used for, as `divide_rows` has it: ``train``, ``valid``, ``test`` or empty, (n,).

    Without any label there are no probes, and the parts are the dataset's own splits.

    Raises:
        LabelMismatchError: A group straddles the dataset's own splits.
    """
    if not _has_labels(table, scheme):
        return table.splits
    split = divide_rows(table, scheme, seed=seed)
    parts = np.full(len(table), "", dtype="<U5")
    for name in ("train", "valid", "test"):
        parts[getattr(split, name)] = name
    return parts


def order_rows(
    table: SampleTable, rows: Rows, scheme: str | None = None, seed: int = 0, *, purpose: str = "label fraction"
) -> LabelOrder:
    """Order labelled rows so that every prefix is stratified, within rounding, and holds whole groups.

    Within a class, units (groups, or single samples where there are none) are in the order of a hash of seed and
    name; the position of a unit is the middle of its rows among those of its class. The first unit that holds a class
    moves to the front, so that the smallest fraction has every class. A group counts as of its most frequent class; an
    empty group is none.

    Args:
        table: The samples.
        rows: int64 (n,), labelled rows.
        scheme: Label scheme; the table's default for None.
        seed: Seed of the order.
        purpose: What the order is for; orders of different purpose are independent.
    """
    labels = table.labels[table.scheme(scheme)][rows]
    salt = f"{purpose}\0{seed}"
    row_hash = hash_names(salt, (table.sample_ids[row] for row in rows))
    if (groups := name_groups(table, rows)) is None:
        unit, unit_hash = np.arange(len(rows)), row_hash
    else:
        names, unit = np.unique(groups, return_inverse=True)
        unit_hash = hash_names(salt, names)
    position = _positions(unit, unit_hash, labels)[unit]
    order = np.lexsort((row_hash, unit_hash[unit], position))
    return LabelOrder(np.asarray(rows, dtype=np.int64)[order], position[order])


def name_groups(table: SampleTable, rows: Rows) -> NDArray[np.str_] | None:
    """The group of each of some rows, a name of its own for a row without one; None where the table has no groups."""
    if table.groups is None:
        return None
    # the zero byte keeps the id of a row without group apart from the name of any group
    return np.array([table.groups[row] or f"\0{table.sample_ids[row]}" for row in rows], dtype=np.str_)


def _hold_out(order: LabelOrder) -> tuple[Rows, Rows]:
    """The training share and the rest; of a few large groups, of which none lies in the rest, the last one."""
    train, test = order.divide(round(100 * TRAIN_SHARE))
    if len(test) or not len(train):
        return train, test
    last = order.position == order.position[-1]
    return (train, test) if last.all() else (train[~last], train[last])


def parse_fractions(text: str) -> tuple[int, ...]:
    """Label fractions as users write them: ``10,30,50,100``.

    Raises:
        UsageError: One is not a whole number.
    """
    percents = [percent.strip() for percent in text.split(",")]
    if not all(percent.isdecimal() for percent in percents):
        raise UsageError(f"{text!r} is not a list of whole percents", where="fractions", hint="Write 10,30,50,100.")
    return tuple(map(int, percents))


def check_fractions(percents: Sequence[int]) -> None:
    """Refuse label fractions that are not whole percents in (0, 100].

    Raises:
        ProbeError: A fraction outside, or none at all.
    """
    wrong = [percent for percent in percents if not 0 < percent <= 100 or percent != int(percent)]
    if wrong or not percents:
        raise ProbeError(
            "label fractions must be whole percents above 0 and up to 100",
            where=wrong or "no fraction",
            hint="Give for example 10, 30, 50 and 100.",
        )


def _positions(unit: Rows, unit_hash: NDArray[np.uint64], labels: Rows) -> NDArray[np.float64]:
    """Position in [0, 1) of each unit among the units of its class; the first that holds a class is at 0."""
    position = place_units(unit, unit_hash, labels)
    n_classes = int(labels.max(initial=0)) + 1
    unit_of_pair, class_of_pair = np.divmod(np.unique(unit * n_classes + labels), n_classes)
    by_hash = np.argsort(unit_hash[unit_of_pair], kind="stable")
    first_of_class = np.unique(class_of_pair[by_hash], return_index=True)[1]
    position[unit_of_pair[by_hash][first_of_class]] = 0.0
    return position


def hash_names(salt: str, names: Iterable[str]) -> NDArray[np.uint64]:
    """A number for each name that depends on nothing but the salt and the name."""
    digests = (blake2b(f"{salt}\0{name}".encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _has_labels(table: SampleTable, scheme: str | None) -> bool:
    return bool(table.labels) and bool((table.labels[table.scheme(scheme)] != UNLABELLED).any())


def _labelled(table: SampleTable, scheme: str, split: str) -> Rows:
    return np.flatnonzero((table.splits == split) & (table.labels[scheme] != UNLABELLED)).astype(np.int64)


def _check_labels(table: SampleTable, scheme: str, split: Split) -> None:
    labels, classes = table.labels[scheme], table.classes[scheme]
    if not (labels != UNLABELLED).any():
        raise LabelMismatchError(
            f"no row has a label of scheme {scheme!r}", where=table.name, hint="Label some rows, or choose a scheme."
        )
    present = np.unique(labels[split.train])
    hint = "Label more rows, or check which rows the splits mark."
    if not len(split.train) or not len(split.test):
        empty = "test" if len(split.train) else "training"
        raise ProbeError(f"no labelled {empty} rows", where=table.name, hint=hint)
    if len(present) == 1:
        raise ProbeError(
            f"all training rows are of one class, {classes[present[0]]!r}",
            where=table.name,
            hint="A probe needs at least two classes: label more rows, or choose another label scheme.",
        )
    if len(split.train) < len(classes):
        raise ProbeError(f"{len(split.train)} training rows for {len(classes)} classes", where=table.name, hint=hint)


def _check_groups(table: SampleTable, split: Split) -> None:
    if table.groups is None:
        return
    parts = [set(table.groups[rows].tolist()) for rows in (split.train, split.valid, split.test)]
    shared = sorted(((parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])) - {""})
    if shared:
        raise LabelMismatchError(
            f"{len(shared)} groups have samples in more than one split: {', '.join(shared[:5])}",
            where=table.name,
            hint="Keep each group in one split, or read the dataset without groups.",
        )
