"""The plan of a sweep: which rows and which parameters each fit has. The only place that knows splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal, TypedDict, get_args

import numpy as np

from featurestore.errors import UsageError
from featurestore.store.features import FeatureMatrix
from featurestore.training_rows import check_test_rows, recorded_rows
from probes.heads.registry import HEADS, head_params
from probes.results.former_names import present_parameters, present_protocol
from probes.sweep.memory import check_vectors
from probes.sweep.splits import Split, check_fractions, describe_split, order_rows, split_rows
from probes.sweep.streaming import check_heads, describe_streaming
from probes.sweep.tasks import Task, digest_origin

Validation = Literal["split", "rest", "none"]


class FitOptions(TypedDict, total=False):
    """How heads are fitted, as keywords; see `plan`."""

    protocol: str
    scheme: str | None
    validation: Validation
    allow_seen_rows: bool
    options: Mapping[str, Mapping[str, Any]]


class Grid(FitOptions, total=False):
    """What a sweep covers, as keywords; see `plan`."""

    fractions: Sequence[int]
    seeds: int | Sequence[int]


def plan(
    features: FeatureMatrix,
    heads: Sequence[str],
    *,
    protocol: str = "cv",
    fractions: Sequence[int] = (10, 30, 50, 100),
    seeds: int | Sequence[int] = 3,
    scheme: str | None = None,
    validation: Validation = "none",
    allow_seen_rows: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Task]:
    """Decide rows and parameters of every fit; nothing is fitted yet. What is named twice is fitted once.

    Args:
        features: FeatureMatrix with labels and splits, in memory or in their store.
        heads: Names of heads.
        protocol: ``cv`` or ``paper``; the former name ``convex`` is understood, with a `FormerNameWarning`.
        fractions: Whole percents of the training labels.
        seeds: Their number (0, 1, ...) or the seeds themselves.
        scheme: Label scheme; the dataset's default for None.
        validation: Labelled rows outside the fraction that a head may choose `C` or an epoch by under
            ``cv``: ``none``, so that it chooses inside the fraction; the valid ``split`` of the dataset; or the
            ``rest`` of the training rows. Heads look at none where features stay in their store.
        allow_seen_rows: Whether a backbone may be tested on rows that it was trained on; its runs state how many.
        options: Name of a head -> its parameters, for example ``{"linear": {"epochs": 200}}``.

    Raises:
        UnknownNameError: No such head or label scheme.
        UsageError: A protocol, parameter or number of seeds that does not exist.
        SeenRowsError: The backbone was trained on test rows.
        LabelMismatchError, ProbeError: See `probes.sweep.splits`, `probes.sweep.streaming.check_heads` and
            `probes.sweep.memory.check_vectors`.
    """
    protocol = present_protocol(protocol)
    given = {head: present_parameters(one) for head, one in (options or {}).items()}
    check_fractions(fractions)
    _check_names(heads, validation, given)
    check_vectors(features)
    check_heads(features, heads, given)
    table, scheme = features.table, features.table.scheme(scheme)
    labels, split = table.labels[scheme], split_rows(table, scheme)
    orders = {seed: order_rows(table, split.train, scheme, seed) for seed in _seed_list(seeds)}
    usable = split.valid[np.isin(labels[split.valid], labels[split.train])]
    notes = _notes(features, scheme, split, allow_seen_rows) | describe_streaming(features, protocol)
    told, origin = describe_split(table, scheme), digest_origin(table, scheme)
    tasks = []
    for head, fraction, seed in product(dict.fromkeys(heads), dict.fromkeys(fractions), orders):
        train, rest = orders[seed].divide(fraction)
        chooses = HEADS.get(head).uses_validation and protocol == "cv" and features.block_rows is None
        valid = {"split": usable, "rest": rest}.get(validation, rest[:0]) if chooses else rest[:0]
        own = given.get(head, {})
        stated = notes | ({"validation": validation} if len(valid) else {}) | ({"options": own} if own else {})
        params, parts = head_params(head, protocol, seed, own), (train, split.train, valid, split.test)
        tasks.append(Task(head, params, protocol, scheme, fraction, seed, *parts, stated, told, origin))
    return tasks


def _notes(features: FeatureMatrix, scheme: str, split: Split, allow_seen_rows: bool) -> dict[str, Any]:
    """What every run of a scheme has to state: classes that are tested but cannot be learnt, rows that were seen."""
    table = features.table
    labels, classes = table.labels[scheme], table.classes[scheme]
    absent = np.setdiff1d(labels[split.test], labels[split.train])
    tested = [table.sample_ids[row] for row in split.test]
    seen = check_test_rows(recorded_rows(features.provenance), tested, table.name, allow=allow_seen_rows)
    return ({"absent_from_train": [classes[label] for label in absent]} if len(absent) else {}) | seen


def _seed_list(seeds: int | Sequence[int]) -> list[int]:
    listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not listed or min(listed) < 0:
        raise UsageError(f"seeds are {seeds}", where="seeds", hint="Give a number of seeds, 1 or more.")
    return listed


def _check_names(heads: Sequence[str], validation: str, options: Mapping[str, Any]) -> None:
    if validation not in get_args(Validation):
        hint = f"Use one of {', '.join(get_args(Validation))}."
        raise UsageError(f"unknown validation rows {validation!r}", where="validation", hint=hint)
    if unused := sorted(set(options) - set(heads)):
        raise UsageError(
            f"options for heads that are not asked for: {', '.join(unused)}",
            where="options",
            hint=f"Heads asked for: {', '.join(heads)}.",
        )
