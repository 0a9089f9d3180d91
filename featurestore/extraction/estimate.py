"""estimate: what an extraction would do and cost, before it is begun."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.extraction.compiled_backbone import CompiledBackbone, compile_backbones
from featurestore.extraction.contents import Contents
from featurestore.extraction.embedding import embed_batch, pad_slots
from featurestore.extraction.requests import (
    ExtractionOptions,
    ExtractionRequest,
    find_entry,
    list_requests,
    pending_rows,
    row_fingerprints,
)

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.samples import SampleTable
    from featurestore.store import FeatureStore
    from featurestore.store.entry import FeatureEntry


@dataclass(frozen=True)
class Estimate:
    """What an extraction would do.

    Attributes:
        dataset: Name of the dataset.
        images: Images to decode.
        forwards: Images to forward, summed over backbones and variants.
        bytes: Bytes of features to store.
        seconds: Wall time, from one batch of the dataset's own images that was timed on one worker; without start-up.
    """

    dataset: str
    images: int
    forwards: int
    bytes: int
    seconds: float


def estimate(
    dataset: ImageDataset,
    backbones: Sequence[str],
    variants: Sequence[str],
    store: FeatureStore | None,
    options: ExtractionOptions,
) -> Estimate:
    """State images, forwards, bytes and time of `featurestore.extraction.extract.extract_features`; nothing is written.

    Args:
        dataset: The images.
        backbones: Names of backbones.
        variants: Names or specs of variants.
        store: The store as it is; None if there is none yet.
        options: As for the extraction.

    Raises:
        SkyprobeError: See the extraction, apart from writing.
    """
    plan = _Plan(dataset, store, options)
    requests = list_requests(dataset, backbones, variants, options, store)
    unfinished = [one for one in requests if plan.pending(one, plan.find_by_request(one)).any()]
    models = compile_backbones(unfinished, options, dataset.decoder)
    pending = {one: plan.pending(one, plan.find_by_key(one, model)) for one, model in models.items()}
    todo = {one: mask for one, mask in pending.items() if mask.any()}
    if not todo:
        return Estimate(dataset.table.name, 0, 0, 0, 0.0)
    rows = np.flatnonzero(np.any(list(todo.values()), axis=0))
    counts = {one: int(mask.sum()) for one, mask in todo.items()}
    return Estimate(
        dataset=dataset.table.name,
        images=len(rows),
        forwards=_count_passes(todo),
        bytes=sum(count * _row_bytes(one, models[one]) for one, count in counts.items()),
        seconds=_seconds(dataset, {one: models[one] for one in todo}, rows, options),
    )


def _count_passes(todo: Mapping[ExtractionRequest, NDArray[np.bool_]]) -> int:
    """Images forwarded, summed over networks and variants: layers share a pass."""
    passes: dict[tuple[object, ...], NDArray[np.bool_]] = {}
    for one, mask in todo.items():
        shared = (one.network, one.preprocessing)
        passes[shared] = passes.get(shared, np.False_) | mask
    return sum(int(mask.sum()) for mask in passes.values())


class _Plan:
    """What an extraction would find in the store, which is only read."""

    def __init__(self, dataset: ImageDataset, store: FeatureStore | None, options: ExtractionOptions) -> None:
        self._table, self._options = dataset.table, options
        self._contents = Contents(dataset, options.worker_count)
        self._store = store if store and self._table.name in store.datasets() else None
        self._rows = _rows_in(self._store, self._table)

    def find_by_request(self, request: ExtractionRequest) -> FeatureEntry | None:
        """Features that an equal request made."""
        return find_entry(request, self._table.name, self._store) if self._store else None

    def find_by_key(self, request: ExtractionRequest, model: CompiledBackbone) -> FeatureEntry | None:
        """Features of the very key, whatever request made them."""
        if self._store is None:
            return None
        key, names = request.key(model.backbone).sha256, (self._table.name, request.variant, request.spec.name)
        return next(iter(self._store.find(*names, key=key, skip_damaged=True)), None)

    def pending(self, request: ExtractionRequest, entry: FeatureEntry | None) -> NDArray[np.bool_]:
        """Bool (n,), samples to embed."""
        fingerprints = row_fingerprints(self._table, request.preprocessing)
        retry, every = self._options.retry_unreadable, self._options.checksum
        pending = pending_rows(entry, request, self._rows, fingerprints, retry_unreadable=retry)
        if entry is None:
            return pending
        compared = self._contents.compare(entry, request, self._rows, fingerprints, pending=pending, every=every)
        return (pending & ~compared.same) | compared.changed


def _rows_in(store: FeatureStore | None, table: SampleTable) -> NDArray[np.int64]:
    """int64 (n,): where the store keeps each sample; -1 where it does not know it."""
    known = {sample: row for row, sample in enumerate(store.sample_ids(table.name))} if store else {}
    return np.array([known.get(sample, -1) for sample in table.sample_ids], dtype=np.int64)


def _row_bytes(request: ExtractionRequest, model: CompiledBackbone) -> int:
    return sum(map(prod, model.shapes.values())) * np.dtype(request.dtype).itemsize


def _seconds(
    dataset: ImageDataset,
    models: Mapping[ExtractionRequest, CompiledBackbone],
    rows: NDArray[np.int64],
    options: ExtractionOptions,
) -> float:
    """Time of one batch, for as many rounds as the workers need; a GPU takes them in turn, while they decode."""
    (device,) = {one.runtime.device for one in models}
    size = options.batch_size_on(device)
    slots = pad_slots(rows[:size], size)
    tasks = [model.task(one.preprocessing, slots) for one, model in models.items()]
    embed_batch(dataset, tasks)  # the first pass pays for caches and lazy kernels
    started = perf_counter()
    _, costs = embed_batch(dataset, tasks)
    seconds, batches = perf_counter() - started, math.ceil(len(rows) / size)
    if device == "cpu":
        return seconds * math.ceil(batches / options.worker_count)
    return max(costs.forward, (seconds - costs.forward) / options.worker_count) * batches
