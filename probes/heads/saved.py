"""Saved heads: plain arrays in a store, and what they say of every row of the same features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError, ProbeError, UnknownNameError, UsageError
from featurestore.store.features import FeatureSet
from featurestore.store.key import FeatureKey
from probes.heads.calibration import apply_temperature
from probes.heads.registry import HEADS, expand_classes
from probes.results.former_names import read_arrays, read_params
from probes.results.json_values import json_ready

if TYPE_CHECKING:
    from featurestore.store import FeatureStore
    from featurestore.store.cache import CacheEntry

KIND = "heads"
"""Kind of the saved heads in a store."""

_APART = ("digest", "arrays")
"""Attributes that an entry has as its name and its arrays."""


@dataclass(frozen=True)
class SavedHead:
    """A fitted head with everything that `predict` needs; no pickled object is part of it.

    Attributes:
        digest: SHA-256 that names it in the store; a unique beginning is enough for `load_head`.
        head: Name of the head.
        protocol: ``cv`` or ``paper``, or ``convex``, the rule of earlier versions.
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
        params: What was chosen or fixed: `C`, epochs, k.
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


def list_heads(store: FeatureStore) -> list[SavedHead]:
    """The saved heads of a store, by digest; damaged ones count as absent."""
    found = {name: store.get_cached(KIND, name) for name in sorted(store.list_cached(KIND))}
    return [_restore(name, entry) for name, entry in found.items() if entry]


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
    entry = store.get_cached(KIND, matches[0])
    if entry is None:
        raise CorruptStoreError(
            "a saved head is damaged", where=matches[0], hint="Save the head again: skyprobe probe DATA --save."
        )
    return _restore(matches[0], entry)


def predict_calibrated(saved: SavedHead, features: FeatureSet) -> NDArray[np.float32]:
    """Calibrated probabilities of every row, float32 (n, len(saved.classes)).

    Args:
        saved: A saved head.
        features: Features of the key and pooling that the head was fitted on; of any dataset.

    Raises:
        ProbeError: The features have another key or pooling.
    """
    _check_features(saved, features)
    head = HEADS.get(saved.head).from_arrays(saved.arrays)
    calibrated = apply_temperature(head.predict_proba(features.values), saved.temperature)
    return expand_classes(calibrated, head.classes_, len(saved.classes))


def store_head(store: FeatureStore, saved: SavedHead) -> None:
    """Save a head under its digest."""
    facts = {field.name: getattr(saved, field.name) for field in fields(saved) if field.name not in _APART}
    facts |= {"key": saved.key.to_dict(), "classes": list(saved.classes), "params": json_ready(saved.params)}
    store.put_cached(KIND, saved.digest, saved.arrays, facts)


def _restore(name: str, entry: CacheEntry) -> SavedHead:
    facts = dict(entry.attributes)
    facts |= {"key": FeatureKey.from_dict(facts["key"]), "classes": tuple(facts["classes"])}
    facts |= {"params": read_params(facts["params"]), "arrays": read_arrays(entry.arrays)}
    return SavedHead(digest=name, **facts)


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
