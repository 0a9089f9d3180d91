"""Rows that a classifier learns from, stops on and is tested on: those of probes of the same fraction and seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import FinetuneError
from featurestore.samples import UNLABELLED, SampleTable
from probes.heads.mlp import HELD_OUT
from probes.sweep.splits import Rows, order_rows, split_rows


@dataclass(frozen=True)
class TrainingRows:
    """Rows of a table by their use; disjoint.

    Attributes:
        train: int64, rows to learn from, with their labels.
        valid: int64, rows to stop on; may be empty.
        test: int64, rows to predict.
        unlabelled: int64, training rows to learn from without their labels; may be empty.
        validation: Where `valid` comes from: ``split`` (the dataset's), ``held out`` (of the fraction) or ``none``.
    """

    train: Rows
    valid: Rows
    test: Rows
    unlabelled: Rows
    validation: str

    @property
    def digest(self) -> str:
        """SHA-256 over all of them."""
        sha = hashlib.sha256()
        for rows in (self.train, self.valid, self.test, self.unlabelled):
            sha.update(len(rows).to_bytes(8, "little") + rows.astype("<i8").tobytes())
        return sha.hexdigest()


def usable_rows(table: SampleTable, scheme: str | None = None) -> Rows:
    """Rows whose images can be of use: labelled ones, and those marked ``train``; int64, ascending."""
    labelled = table.labels[table.scheme(scheme)] != UNLABELLED
    return np.flatnonzero(labelled | (table.splits == "train")).astype(np.int64)


def choose_rows(
    table: SampleTable,
    scheme: str | None,
    fraction: int,
    seed: int,
    *,
    stops_early: bool = True,
    unlabelled: bool = False,
) -> TrainingRows:
    """The rows of one training.

    Test rows and the fraction are those of `probes.sweep.splits`. What a training stops on is the dataset's validation
    split; without one, a share `probes.heads.mlp.HELD_OUT` of the fraction is held out, by classes and whole groups.
    Unlabelled are the training rows outside the fraction, and rows that the dataset marks ``train`` without a label;
    never a row of another split, nor one whose group has rows there.

    Args:
        table: The samples.
        scheme: Label scheme; the table's default for None.
        fraction: Percent of the training labels.
        seed: Seed of the fraction.
        stops_early: Whether rows to stop on are wanted.
        unlabelled: Whether unlabelled rows are wanted.

    Raises:
        FinetuneError: Unlabelled rows are wanted, and there are none.
        LabelMismatchError, ProbeError: See `probes.sweep.splits.split_rows`.
    """
    scheme = table.scheme(scheme)
    labels, split = table.labels[scheme], split_rows(table, scheme)
    train, hidden = order_rows(table, split.train, scheme, seed).divide(fraction)
    valid, validation = split.valid[np.isin(labels[split.valid], labels[train])], "split"
    if not len(valid):
        order = order_rows(table, train, scheme, seed, purpose="early stopping")
        kept, valid = order.divide(round(100 * (1 - HELD_OUT)))
        train, validation = (kept, "held out") if stops_early and len(valid) else (train, "none")
    if not stops_early or validation == "none":
        valid, validation = valid[:0], "none"
    others = _find_unlabelled(table, hidden, labels == UNLABELLED, np.concatenate([split.valid, split.test]))
    if unlabelled and not len(others):
        raise FinetuneError(
            f"{fraction} % of the labels hide none, and no training row lacks one",
            where=table.name,
            hint="Give a smaller fraction, or leave out --unlabelled.",
        )
    return TrainingRows(train, valid, split.test, others if unlabelled else others[:0], validation)


def _find_unlabelled(table: SampleTable, hidden: Rows, bare: NDArray[np.bool_], apart: Rows) -> Rows:
    marked = bare & (table.splits == "train")
    if table.groups is not None:
        marked &= ~np.isin(table.groups, np.setdiff1d(table.groups[apart], [""]))
    return np.sort(np.concatenate([hidden, np.flatnonzero(marked)]))
