"""audit: embed random stored rows again and compare. Checksums prove that bytes are intact; this proves where from."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import StoreError, UsageError
from featurestore.extraction.compiled_backbone import CompiledBackbone, compile_backbones
from featurestore.extraction.embedding import EMPTY, embed_batch, pad_slots
from featurestore.extraction.requests import ExtractionOptions, ExtractionRequest, list_requests

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.store.entry import FeatureEntry
    from featurestore.store.features import FeatureSet


@dataclass(frozen=True)
class Audit:
    """Rows embedded again, compared with the store.

    Attributes:
        features: Which features.
        rows: Number of rows compared.
        largest: Largest absolute difference, relative to the largest stored absolute value of the row.
        wrong: Ids of samples whose difference exceeds `TOLERANCE` of their storage type.
    """

    features: str
    rows: int
    largest: float
    wrong: tuple[str, ...]


TOLERANCE = {"float16": 4e-3, "float32": 1e-4}
"""Largest relative difference that rounding explains: storage type, batch neighbours, other library versions."""


def audit(entry: FeatureEntry, dataset: ImageDataset, n_rows: int, *, seed: int = 0) -> list[Audit]:
    """Embed `n_rows` random rows again, by the weights and arithmetic of the key, and compare every pooling.

    Args:
        entry: Features to check.
        dataset: The dataset they were made from.
        n_rows: Rows to embed again; all if there are fewer.
        seed: Seed of the choice.

    Raises:
        UsageError: Less than one row.
        StoreError: The weights are no longer those of the key, or the dataset has none of the stored samples.
    """
    if n_rows < 1:
        raise UsageError(f"an audit of {n_rows} rows", where="audit", hint="Give 1 row or more.")
    stored = {pooling: entry.read(pooling, allow_partial=True) for pooling in entry.shapes}
    chosen = _choose(list(stored.values()), dataset, n_rows, seed)
    again = _embed_again(entry, dataset, np.array(list(chosen.values())))
    return [_compare(entry, features, chosen, again[pooling]) for pooling, features in stored.items()]


def _choose(stored: Sequence[FeatureSet], dataset: ImageDataset, n_rows: int, seed: int) -> dict[str, int]:
    """Sample id -> row of the dataset, of a random choice among the samples that every pooling has."""
    complete = set.intersection(*(set(features.table.sample_ids) for features in stored))
    common = [(sample, row) for row, sample in enumerate(dataset.table.sample_ids) if sample in complete]
    if not common:
        raise StoreError(
            "the dataset has none of the stored samples", where=dataset.table.name, hint="Give the same DATA."
        )
    picked = np.random.default_rng(seed).choice(len(common), size=min(n_rows, len(common)), replace=False)
    return dict(common[number] for number in sorted(picked.tolist()))


def _embed_again(entry: FeatureEntry, dataset: ImageDataset, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Pooling -> float32 (len(rows), d)."""
    options = ExtractionOptions(
        weights=entry.provenance["weights"],
        poolings=tuple(entry.shapes),
        engine=entry.key.engine,
        device=entry.key.device,
        precision=entry.key.precision,
        dtype=entry.key.dtype,
        batch_size=entry.provenance.get("batch_size"),
        workers=1,
    )
    (request,) = list_requests(dataset, [entry.backbone], [entry.variant], options)
    model = _load_same(request, options, entry, dataset.decoder)
    size, pieces = options.batch_size_on(entry.key.device), []
    for start in range(0, len(rows), size):
        slots = pad_slots(rows[start : start + size], size)
        (embedded,), _ = embed_batch(dataset, [model.task(request.preprocessing, slots)])
        pieces.append({name: values[slots != EMPTY] for name, values in embedded.values.items()})
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in entry.shapes}


def _load_same(
    request: ExtractionRequest, options: ExtractionOptions, entry: FeatureEntry, decoder: str
) -> CompiledBackbone:
    """The model that made these features, or an error that says what differs."""
    model = compile_backbones([request], options, decoder)[request]
    changed = request.key(model.backbone).differences(entry.key)
    if changed:
        raise StoreError(
            f"the features cannot be made again: {', '.join(changed)} changed",
            where=entry.path,
            hint="Restore the weights or versions that the provenance names; to see them, run: "
            f"{shlex.join(['skyprobe', 'info', entry.dataset, '--key', entry.key.short])}",
        )
    return model


def _compare(entry: FeatureEntry, stored: FeatureSet, chosen: dict[str, int], again: NDArray[np.float32]) -> Audit:
    place = {sample: row for row, sample in enumerate(stored.table.sample_ids)}
    before = stored.values[[place[sample] for sample in chosen]]
    of_sample = tuple(range(1, before.ndim))
    scale = np.abs(before).max(axis=of_sample).clip(min=np.finfo(np.float32).tiny)
    difference = np.abs(again - before).max(axis=of_sample) / scale
    close = difference <= TOLERANCE[entry.key.dtype]  # NaN is not
    wrong = tuple(sample for sample, right in zip(chosen, close, strict=True) if not right)
    name = f"{entry.dataset}/{entry.variant}/{entry.backbone}/{entry.key.short}/{stored.pooling}"
    return Audit(name, len(chosen), float(difference.max()), wrong)
