"""What was computed from stored features and cached: it goes when they go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featurestore.errors import CorruptStoreError
from featurestore.store.key import FeatureKey, digest
from featurestore.store.layout.storage import Storage

if TYPE_CHECKING:
    from featurestore.store.entry import FeatureEntry

KINDS = ("heads", "projection", "runs")
"""Kinds of cached entries that are computed from features. Trainings and pictures are made from images, and stay."""

KEYS = "keys"
"""Attribute of a cached entry: the keys of the features that it was computed from; see `list_keys`."""

_JOINT = "+"
"""Between the names of backbones, or of variants, whose features are side by side."""


def list_keys(key: FeatureKey) -> list[str]:
    """SHA-256 of the key of a feature matrix, and of those that it was put together from."""
    return [key.sha256, *_parts(key.to_dict())]


def find_dependants(
    storage: Storage, group: str, entry: FeatureEntry, others: Sequence[FeatureEntry]
) -> Iterator[tuple[str, str]]:
    """Kind and name of each cached entry that was computed from some features.

    Args:
        storage: Where they are.
        group: Path of the group of cached entries.
        entry: The features.
        others: Features that remain. An older entry that does not say its key, or its dataset, belongs to these too if
            they go by the same names.
    """
    for kind in KINDS:
        for name in storage.children(f"{group}/{kind}"):
            try:
                attributes = (storage.attributes(f"{group}/{kind}/{name}") or {}).get("attributes")
            except CorruptStoreError:
                continue
            if isinstance(attributes, Mapping) and _is_of(attributes, entry) and not _is_of_any(attributes, others):
                yield kind, name


def find_orphans(storage: Storage, group: str, entries: Sequence[FeatureEntry]) -> Iterator[str]:
    """Paths of cached entries that state the key of features, none of which is among these."""
    for kind in KINDS:
        for name in storage.children(f"{group}/{kind}"):
            path = f"{group}/{kind}/{name}"
            try:
                attributes = (storage.attributes(path) or {}).get("attributes")
            except CorruptStoreError:
                continue
            if not isinstance(attributes, Mapping) or not _stated_keys(attributes):
                continue
            if not any(_is_of(attributes, entry) for entry in entries):
                yield path


def _is_of_any(attributes: Mapping[str, Any], others: Sequence[FeatureEntry]) -> bool:
    """Whether a cached entry may be of features that remain; one that states key and dataset is not."""
    stated = "dataset" in attributes and _stated_keys(attributes)
    return not stated and any(_is_of(attributes, other) for other in others)


def _is_of(attributes: Mapping[str, Any], entry: FeatureEntry) -> bool:
    """Whether everything that a cached entry says of its features is true of these."""
    keys = _stated_keys(attributes)
    said = [
        *([any(entry.key.sha256.startswith(key) for key in keys)] if keys else []),
        *([attributes["dataset"] == entry.dataset] if "dataset" in attributes else []),
        *(
            getattr(entry, name) in str(attributes[name]).split(_JOINT)
            for name in ("variant", "backbone")
            if name in attributes
        ),
    ]
    return bool(said) and all(said)


def _stated_keys(attributes: Mapping[str, Any]) -> list[str]:
    """Keys that a cached entry states: all of them, or the one of older entries, in full, its digest or its start."""
    key = attributes.get(KEYS, attributes.get("key", []))
    if isinstance(key, Mapping):
        return [digest(dict(key)), *_parts(key)]
    return [key] if isinstance(key, str) else list(key)


def _parts(key: Mapping[str, Any]) -> list[str]:
    return [part["key"] for part in key["preprocessing"].get("parts", ())]
