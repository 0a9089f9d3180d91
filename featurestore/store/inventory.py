"""Inventory: what a store holds, as plain values for tables and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurestore.store import FeatureStore
    from featurestore.store.entry import FeatureEntry
from featurestore.training_rows import leave_out_rows

Row = dict[str, Any]


def list_store(store: FeatureStore) -> list[Row]:
    """One row for each feature matrix: names, poolings, rows by state, size in MB (10^6 bytes)."""
    return [summarise(entry) for entry in store.find()]


def summarise(entry: FeatureEntry) -> Row:
    """The row of `list_store` for one feature matrix."""
    done, unreadable, missing = entry.counts()
    return {
        "dataset": entry.dataset,
        "variant": entry.variant,
        "backbone": entry.backbone,
        "key": entry.key.short,
        "poolings": ",".join(f"{name}({'x'.join(map(str, shape))})" for name, shape in entry.shapes.items()),
        "done": done,
        "unreadable": unreadable,
        "missing": missing,
        "megabytes": round(entry.nbytes / 1e6, 1),
    }


def describe(entry: FeatureEntry) -> Row:
    """Everything about one feature matrix: its key in full, provenance, and unreadable images with their reasons."""
    return summarise(entry) | {
        "sha256": entry.key.sha256,
        "key_fields": entry.key.to_dict(),
        "provenance": leave_out_rows(entry.provenance),
        "unreadable_images": entry.unreadable(),
    }


def explain_keys(found: Sequence[FeatureEntry]) -> list[Row]:
    """Fields of the keys that differ between feature matrices, one row for each field; all keys as columns."""
    if not found:
        return []
    first = found[0]
    differing = sorted({field for other in found[1:] for field in first.key.differences(other.key)})
    return [{"field": field} | {_name(one): one.key.fields.get(field) for one in found} for field in differing]


def _name(entry: FeatureEntry) -> str:
    return f"{entry.variant}/{entry.backbone}/{entry.key.short}"
