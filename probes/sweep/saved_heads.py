"""Saved heads: fitted once, calibrated, stored as plain arrays, and applied to every row of the same features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from featurestore.errors import CorruptStoreError, ProbeError, UnknownNameError, UsageError
from featurestore.store.features import FeatureSet
from featurestore.store.key import FeatureKey
from probes.heads.calibration import apply_temperature, fit_temperature
from probes.heads.registry import HEADS, Head, spread
from probes.results.json_values import json_ready
from probes.solvers.factorisation import SharedRows
from probes.sweep.splits import Rows, name_parts, order_rows, split_rows
from probes.sweep.sweep import FitOptions, fit_head, plan, predict_rows, task_digests
from probes.sweep.tasks import Task

if TYPE_CHECKING:
    from featurestore.store import FeatureStore
    from featurestore.store.cache import CacheEntry

KIND = "heads"
"""Kind of the saved heads in a store."""

N_FOLDS = 5
"""Folds of the training rows that calibrate a head when no other labelled rows are left."""


@dataclass(frozen=True)
class SavedHead:
    """A fitted head with everything that `predict` needs; no pickled object is part of it.

    Attributes:
        digest: SHA-256 that names it in the store; a unique beginning is enough for `load_head`.
        head: Name of the head.
        protocol: ``convex`` or ``paper``.
        scheme: Label scheme.
        fraction: Percent of the training labels it was fitted on.
        seed: Seed of subset and initialisation.
        dataset: Name of the dataset it was fitted on.
        variant: Name of the preprocessing variant.
        backbone: Name of the backbone.
        pooling: Name of the pooling.
        key: Identity of the features; only features of this key can be given to `predict`.
        classes: Class names of the scheme.
        n_train: Rows it was fitted on.
        temperature: Its logits are divided by this.
        calibration: The rows the temperature was fitted on: ``valid``, ``rest``, ``folds`` or ``none``.
        params: What was chosen or fixed: strength, epochs, k.
        arrays: The fitted head, as arrays by name.
    """

    digest: str
    head: str
    protocol: str
    scheme: str
    fraction: int
    seed: int
    dataset: str
    variant: str
    backbone: str
    pooling: str
    key: FeatureKey
    classes: tuple[str, ...]
    n_train: int
    temperature: float
    calibration: str
    params: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    @property
    def short(self) -> str:
        """The first 12 digits of the digest."""
        return self.digest[:12]


def save_head(
    store: FeatureStore,
    features: FeatureSet,
    head: str,
    *,
    fraction: int = 100,
    seed: int = 0,
    **fit: Unpack[FitOptions],
) -> SavedHead:
    """Fit a head on training rows, calibrate it by temperature on other labelled rows, and store it.

    The temperature is fitted on the valid split; without one, on the training rows outside the fraction; without any,
    on probabilities that were cross-validated inside the training rows. Test rows are never looked at. A head that is
    already in the store is not fitted again.

    Args:
        store: Where the head goes.
        features: Features with labels and splits.
        head: Name of the head.
        fraction: Whole percent of the training labels.
        seed: Seed of subset and initialisation.
        fit: Protocol, label scheme, validation and options of the head, as in `probes.sweep.sweep.plan`.

    Raises:
        SkyprobeError: See `probes.sweep.sweep.plan` and the store.
    """
    (task,) = plan(features, [head], fractions=[fraction], seeds=[seed], **fit)
    (name,) = task_digests(features, [task])
    if store.get_cached(KIND, name) is None:
        with threadpool_limits(limits=1):  # as in the sweep: the same numbers, and faster for small products
            _fit_and_store(store, features, task, name)
    return load_head(store, name)


def list_heads(store: FeatureStore) -> list[SavedHead]:
    """The saved heads of a store, by digest; damaged ones count as absent."""
    found = {name: store.get_cached(KIND, name) for name in sorted(store.list_cached(KIND))}
    return [_restore(name, derived) for name, derived in found.items() if derived]


def load_head(store: FeatureStore, name: str) -> SavedHead:
    """The saved head whose digest begins with `name`.

    Raises:
        UnknownNameError: No such head.
        UsageError: Several heads begin like this; they are listed.
        CorruptStoreError: The head is damaged.
    """
    names = sorted(store.list_cached(KIND))
    matches = [known for known in names if known.startswith(name)]
    if not matches:
        known = ", ".join(known[:12] for known in names) or "none"
        raise UnknownNameError(f"no saved head {name!r}", where=KIND, hint=f"Saved heads: {known}.")
    if len(matches) > 1:
        raise UsageError(
            f"{len(matches)} saved heads begin with {name!r}", where=KIND, hint=f"Choose one of {', '.join(matches)}."
        )
    derived = store.get_cached(KIND, matches[0])
    if derived is None:
        raise CorruptStoreError("a saved head is damaged", where=matches[0], hint="Save the head again.")
    return _restore(matches[0], derived)


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
    _check_features(saved, features)
    estimator = HEADS.get(saved.head).from_arrays(saved.arrays)
    calibrated = apply_temperature(estimator.predict_proba(features.values), saved.temperature)
    probabilities = spread(calibrated, estimator.classes_, len(saved.classes))
    names = np.asarray(saved.classes, dtype=object)[probabilities.argmax(axis=1)]
    n_readable, n_unreadable = len(probabilities), len(features.unreadable)
    empty = np.full((n_unreadable, len(saved.classes)), np.nan, dtype=np.float32)
    columns: dict[str, Any] = {
        "sample_id": [*features.table.sample_ids, *features.unreadable],
        "split": [*features.table.splits.tolist(), *[None] * n_unreadable],
        "part": [*_parts(saved, features).tolist(), *[None] * n_unreadable],
        "predicted": [*names, *[None] * n_unreadable],
    }
    columns |= {
        f"p_{name}": column for name, column in zip(saved.classes, np.vstack([probabilities, empty]).T, strict=True)
    }
    return pd.DataFrame(columns | {"reason": [*[None] * n_readable, *features.unreadable.values()]})


def _parts(saved: SavedHead, features: FeatureSet) -> NDArray[np.str_]:
    """What probes use each row for under the scheme of the head; the dataset's own splits where it has none such."""
    table = features.table
    return name_parts(table, saved.scheme) if saved.scheme in table.labels else table.splits


def _fit_and_store(store: FeatureStore, features: FeatureSet, task: Task, name: str) -> None:
    shared = SharedRows(features.values)
    estimator = fit_head(features, task, shared)
    temperature, calibration = _calibrate(features, task, estimator, shared)
    attributes = {
        "head": task.head,
        "protocol": task.protocol,
        "scheme": task.scheme,
        "fraction": task.fraction,
        "seed": task.seed,
        "dataset": features.table.name,
        "variant": features.variant,
        "backbone": features.backbone,
        "pooling": features.pooling,
        "key": features.key.to_dict(),
        "classes": list(features.table.classes[task.scheme]),
        "n_train": len(task.train),
        "temperature": temperature,
        "calibration": calibration,
        "params": json_ready({**estimator.get_params(), **estimator.chosen_, **task.notes}),
    }
    store.put_cached(KIND, name, estimator.to_arrays(), attributes)


def _calibrate(features: FeatureSet, task: Task, estimator: Head, shared: SharedRows) -> tuple[float, str]:
    """Temperature, and the kind of rows that it was fitted on."""
    split = split_rows(features.table, task.scheme)
    for kind, rows in (("valid", split.valid), ("rest", np.setdiff1d(split.train, task.train))):
        truth = features.table.labels[task.scheme][rows]
        known = np.isin(truth, estimator.classes_)
        if known.any():
            probabilities = predict_rows(features, estimator, rows[known])
            return _temperature(probabilities, truth[known], estimator.classes_), kind
    folds = [_predict_fold(features, task, held_out, shared) for held_out in _folds(features, task)]
    if not folds:
        return 1.0, "none"
    probabilities, truth = (np.concatenate(parts) for parts in zip(*folds, strict=True))
    return _temperature(probabilities, truth, estimator.classes_), "folds"


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
    """Probabilities and labels of held-out training rows, by a head fitted on the other ones."""
    rest = task.train[~np.isin(task.train, held_out)]
    inside = replace(task, train=rest, pool=rest, valid=held_out[:0])
    head = fit_head(features, inside, shared)
    return predict_rows(features, head, held_out), features.table.labels[task.scheme][held_out]


def _restore(name: str, derived: CacheEntry) -> SavedHead:
    facts = dict(derived.attributes)
    key, classes = FeatureKey.from_dict(facts.pop("key")), tuple(facts.pop("classes"))
    return SavedHead(digest=name, key=key, classes=classes, arrays=derived.arrays, **facts)


def _check_features(saved: SavedHead, features: FeatureSet) -> None:
    differences = saved.key.differences(features.key)
    if saved.pooling != features.pooling:
        differences["pooling"] = (saved.pooling, features.pooling)
    if differences:
        listed = "; ".join(f"{name} {mine!r}, not {theirs!r}" for name, (mine, theirs) in differences.items())
        raise ProbeError(
            f"the head was fitted on other features: {listed}",
            where=f"head {saved.short}",
            hint="Extract the features that the head was fitted on, or save a head for these.",
        )
