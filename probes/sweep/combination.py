"""Features of several backbones side by side, as one feature matrix."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.errors import ProbeError
from featurestore.store.features import FeatureSet
from featurestore.store.key import FeatureKey

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

JOINT = "+"
"""Between the names of backbones whose features are side by side; no name in the catalogue has it."""

COMBINED = "combined"
"""Model id of keys that no extraction makes: theirs begin with the name of an adapter and a colon."""


def split_names(backbone: str) -> list[str]:
    """The backbones that ``a+b`` names, in this order."""
    return backbone.split(JOINT)


def list_parts(backbones: Iterable[str]) -> tuple[str, ...]:
    """All backbones that some names name, each once."""
    return tuple(dict.fromkeys(part for backbone in backbones for part in split_names(backbone)))


def combine(parts: Sequence[FeatureSet]) -> FeatureSet:
    """The features of several matrices of one dataset side by side; one matrix alone is given back as it is.

    Rows are matched by sample id, in the order of the first matrix; a sample that a matrix lacks is left out, with the
    reason. Nothing is scaled here: all heads but `probes.heads.knn.KNNProbe`, to which the part with the larger
    values counts for more, standardise or whiten their training rows.

    Args:
        parts: Matrices (n_i, d_i), at least one.

    Returns:
        Values (n, sum of d_i), under a key that holds the digests and poolings of all parts in their order: it changes
        whenever a part does, and no extraction can make it.

    Raises:
        ProbeError: Matrices of several datasets, without a common sample, or the same one twice.
    """
    if len(parts) == 1:
        return parts[0]
    _check(parts)
    first, rows = parts[0], [{name: row for row, name in enumerate(part.table.sample_ids)} for part in parts]
    kept = [name for name in first.table.sample_ids if all(name in known for known in rows)]
    blocks = [part.values[[known[name] for name in kept]] for part, known in zip(parts, rows, strict=True)]
    if not kept:
        raise ProbeError("no sample has all features", where=_name(parts), hint="Extract the same images for each.")
    return FeatureSet(
        variant=_join(part.variant for part in parts),
        backbone=_name(parts),
        pooling=_join(part.pooling for part in parts),
        key=combine_keys(parts),
        values=np.hstack(blocks),
        table=first.table.take(np.array([rows[0][name] for name in kept], dtype=np.int64)),
        unreadable=_left_out(parts, set(kept)),
        provenance={"parts": [{"backbone": part.backbone, **part.provenance} for part in parts]},
    )


def combine_keys(parts: Sequence[FeatureSet]) -> FeatureKey:
    """The key of `combine`; its fields are those of the parts joined, and its ``preprocessing`` names the parts."""
    keys = [part.key for part in parts]
    named = ("revision", "weights_hash", "layer", "engine", "precision", "device", "dtype")
    joined: dict[str, Any] = {name: _join(getattr(key, name) for key in keys) for name in named}
    return FeatureKey(
        preprocessing={"parts": [{"key": part.key.sha256, "pooling": part.pooling} for part in parts]},
        backbone=_name(parts),
        model_id=COMBINED,
        **joined,
    )


def read_key(store: FeatureStore, dataset: str, key: FeatureKey, pooling: str) -> FeatureSet:
    """The features of a dataset with this key: as they are stored, or their parts, combined anew.

    Raises:
        MissingFeaturesError: The store lacks them, or a part of them.
    """
    if key.model_id != COMBINED:
        return store.select(dataset, key=key.sha256).read(pooling)
    parts: list[dict[str, Any]] = key.preprocessing["parts"]
    return combine([store.select(dataset, key=part["key"]).read(part["pooling"]) for part in parts])


def _check(parts: Sequence[FeatureSet]) -> None:
    if len({part.table.name for part in parts}) > 1:
        raise ProbeError(
            f"features of the datasets {' and '.join(part.table.name for part in parts)} have no rows in common",
            where=_name(parts),
            hint="Combine features of one dataset.",
        )
    if len({(part.key, part.pooling) for part in parts}) < len(parts):
        raise ProbeError("the same features are in it twice", where=_name(parts), hint="Name each backbone once.")


def _name(parts: Iterable[FeatureSet]) -> str:
    return JOINT.join(part.backbone for part in parts)


def _join(values: Iterable[str]) -> str:
    """Different values in their order, each once."""
    return JOINT.join(dict.fromkeys(values))


def _left_out(parts: Sequence[FeatureSet], kept: Container[str]) -> dict[str, str]:
    """Reason by sample, for those that are not among the kept ones."""
    everyone = dict.fromkeys(name for part in parts for name in (*part.table.sample_ids, *part.unreadable))
    reasons = {name: reason for part in parts for name, reason in part.unreadable.items()}
    return {name: reasons.get(name, f"not in all of {_name(parts)}") for name in everyone if name not in kept}
