"""One head of a sweep, fitted, calibrated on labelled rows that it has not seen, saved, and applied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from featurestore.store.features import FeatureSet
from probes.heads.calibration import fit_temperature
from probes.heads.registry import Head
from probes.heads.saved import KIND, SavedHead, load_head, predict_calibrated, store_head
from probes.solvers.factorisation import SharedRows
from probes.sweep.cache import task_digests
from probes.sweep.plan import FitOptions, plan
from probes.sweep.splits import Rows, name_parts, order_rows, split_rows
from probes.sweep.sweep import fit_head, predict_rows
from probes.sweep.tasks import Task

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

N_FOLDS = 5
"""Folds of the training rows that calibrate a head when no other labelled rows are left."""


def save_head(
    store: FeatureStore,
    features: FeatureSet,
    head: str,
    *,
    fraction: int = 100,
    seed: int = 0,
    **fit: Unpack[FitOptions],
) -> SavedHead:
    """Fit a head on training rows, calibrate it by temperature on other labelled rows, and save it.

    The temperature is fitted on the valid split; without one, on the training rows outside the fraction; without any,
    on probabilities that were cross-validated inside the training rows. Rows by which the head chose `C` or an epoch
    calibrate nothing, and test rows are never looked at. A head that is already in the store is not fitted again.

    Args:
        store: Where the head goes.
        features: Features with labels and splits.
        head: Name of the head.
        fraction: Whole percent of the training labels.
        seed: Seed of subset and initialisation.
        fit: Protocol, label scheme, validation and options of the head, as in `probes.sweep.plan.plan`.

    Raises:
        SkyprobeError: See `probes.sweep.plan.plan` and the store.
    """
    (task,) = plan(features, [head], fractions=[fraction], seeds=[seed], **fit)
    (name,) = task_digests(features, [task])
    if store.get_cached(KIND, name) is None:
        with threadpool_limits(limits=1):  # as in the sweep: the same numbers, and faster for small products
            store_head(store, _fit(features, task, name))
    return load_head(store, name)


def predict(saved: SavedHead, features: FeatureSet) -> pd.DataFrame:
    """Calibrated class probabilities of every row, labelled or not, of any split.

    Args:
        saved: A saved head.
        features: Features of the key and pooling that the head was fitted on; of any dataset.

    Returns:
        One row a sample: ``sample_id``, ``split`` (the dataset's own), ``part`` (what probes use the row for),
        ``predicted`` (class name), ``p_CLASS`` (float32), ``reason``. Rows that could not be read come last, with a
        reason and without split, part, class and probabilities.

    Raises:
        ProbeError: The features have another key or pooling.
    """
    probabilities = predict_calibrated(saved, features)
    names = np.asarray(saved.classes, dtype=object)[probabilities.argmax(axis=1)]
    n_readable, n_unreadable = len(probabilities), len(features.unreadable)
    empty = np.full((n_unreadable, len(saved.classes)), np.nan, dtype=np.float32)
    cells: dict[str, Any] = {
        "sample_id": [*features.table.sample_ids, *features.unreadable],
        "split": [*features.table.splits.tolist(), *[None] * n_unreadable],
        "part": [*_name_parts(saved, features).tolist(), *[None] * n_unreadable],
        "predicted": [*names, *[None] * n_unreadable],
    }
    cells |= {f"p_{name}": p for name, p in zip(saved.classes, np.vstack([probabilities, empty]).T, strict=True)}
    return pd.DataFrame(cells | {"reason": [*[None] * n_readable, *features.unreadable.values()]})


def _name_parts(saved: SavedHead, features: FeatureSet) -> NDArray[np.str_]:
    """What probes use each row for under the scheme of the head; the dataset's own splits where it has none such."""
    table = features.table
    return name_parts(table, saved.scheme) if saved.scheme in table.labels else table.splits


def _fit(features: FeatureSet, task: Task, name: str) -> SavedHead:
    shared = SharedRows(features.values)
    head = fit_head(features, task, shared)
    temperature, calibration = _calibrate(features, task, head, shared)
    return SavedHead(
        digest=name,
        head=task.head,
        protocol=task.protocol,
        scheme=task.scheme,
        fraction=task.fraction,
        seed=task.seed,
        dataset=features.table.name,
        variant=features.variant,
        backbone=features.backbone,
        pooling=features.pooling,
        key=features.key,
        classes=features.table.classes[task.scheme],
        n_train=len(task.train),
        temperature=temperature,
        calibration=calibration,
        params={**head.get_params(), **head.chosen_, **task.notes},
        arrays=head.to_arrays(),
    )


def _calibrate(features: FeatureSet, task: Task, head: Head, shared: SharedRows) -> tuple[float, str]:
    """Temperature, and the kind of rows that it was fitted on."""
    split = split_rows(features.table, task.scheme)
    for kind, rows in (("valid", split.valid), ("rest", np.setdiff1d(split.train, task.train))):
        unseen = np.setdiff1d(rows, task.valid)
        truth = features.table.labels[task.scheme][unseen]
        known = np.isin(truth, head.classes_)
        if known.any():
            return _temperature(predict_rows(features, head, unseen[known]), truth[known], head.classes_), kind
    folds = [_predict_fold(features, task, held_out, shared) for held_out in _folds(features, task)]
    if not folds:
        return 1.0, "none"
    probabilities, truth = (np.concatenate(parts) for parts in zip(*folds, strict=True))
    return _temperature(probabilities, truth, head.classes_), "folds"


def _temperature(probabilities: NDArray[np.floating], truth: Rows, classes: Rows) -> float:
    return float(fit_temperature(probabilities, np.searchsorted(classes, truth)))


def _folds(features: FeatureSet, task: Task) -> list[Rows]:
    """Stratified parts of the training rows, whole groups each; only those whose complement has every class."""
    order = order_rows(features.table, task.train, task.scheme, task.seed, purpose="calibration")
    fold = np.minimum((order.position * N_FOLDS).astype(np.int64), N_FOLDS - 1)
    labels = features.table.labels[task.scheme][order.rows]
    n_classes = len(np.unique(labels))
    held_out = [fold == number for number in range(N_FOLDS)]
    return [order.rows[part] for part in held_out if part.any() and len(np.unique(labels[~part])) == n_classes]


def _predict_fold(
    features: FeatureSet, task: Task, held_out: Rows, shared: SharedRows
) -> tuple[NDArray[np.floating], Rows]:
    """Probabilities and labels of held-out training rows, by a head that was fitted, and chose, without them."""
    rest = task.train[~np.isin(task.train, held_out)]
    head = fit_head(features, replace(task, train=rest, pool=rest), shared)
    return predict_rows(features, head, held_out), features.table.labels[task.scheme][held_out]
