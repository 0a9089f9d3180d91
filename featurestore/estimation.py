"""estimate: what an extraction would do and cost, before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.embedding import EMPTY, Task, embed_batch
from featurestore.extraction import load_models
from featurestore.planning import ExtractionOptions, Wanted, find_arrays, list_wanted, pending_rows, row_stamps

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.samples import SampleTable
    from featurestore.store import FeatureStore


@dataclass(frozen=True)
class Estimate:
    """What an extraction would do.

    Attributes:
        dataset: Name of the dataset.
        images: Images to decode.
        forwards: Images to forward, summed over backbones and variants.
        bytes: Bytes of features to store.
        seconds: Wall time, from one batch of the dataset's own images that was timed on one lane; without start-up.
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
    """State images, forwards, bytes and time of `featurestore.extraction.extract_features`; nothing is written.

    Args:
        dataset: The images.
        backbones: Names of backbones.
        variants: Names or specs of variants.
        store: The store as it is; None if there is none yet.
        options: As for the extraction.
    """
    rows = _rows_in(store, dataset.table)
    wanted = list_wanted(dataset, backbones, variants, options)
    pending = {one: _pending(one, dataset.table, store, rows, options) for one in wanted}
    todo = {one: mask for one, mask in pending.items() if mask.any()}
    if not todo:
        return Estimate(dataset.table.name, 0, 0, 0, 0.0)
    models = load_models(todo, options)
    images = int(np.any(list(todo.values()), axis=0).sum())
    forwards = sum(int(mask.sum()) for mask in todo.values())
    size = {one: sum(models[one].forward.widths.values()) * np.dtype(one.dtype).itemsize for one in todo}
    slots = np.full(options.batch_size_on(wanted[0].runtime.device), EMPTY, dtype=np.int64)
    sample = np.flatnonzero(np.any(list(todo.values()), axis=0))[: len(slots)]
    slots[: len(sample)] = sample
    tasks = [Task(one.preprocessing, models[one].forward, slots) for one in todo]
    seconds = _seconds_a_batch(dataset, tasks) * images / len(sample) / options.lane_count
    stored = sum(int(mask.sum()) * size[one] for one, mask in todo.items())
    return Estimate(dataset.table.name, images, forwards, stored, seconds)


def _rows_in(store: FeatureStore | None, table: SampleTable) -> NDArray[np.int64]:
    """int64 (n,): where the store keeps each sample; -1 where it does not know it."""
    if store is None or table.name not in store.datasets():
        return np.full(len(table), -1, dtype=np.int64)
    known = {sample: row for row, sample in enumerate(store.sample_ids(table.name))}
    return np.array([known.get(sample, -1) for sample in table.sample_ids], dtype=np.int64)


def _pending(
    wanted: Wanted,
    table: SampleTable,
    store: FeatureStore | None,
    rows: NDArray[np.int64],
    options: ExtractionOptions,
) -> NDArray[np.bool_]:
    arrays = find_arrays(wanted, table.name, store) if store else None
    stamps = row_stamps(table, wanted.preprocessing)
    return pending_rows(arrays, wanted, rows, stamps, retry_unreadable=options.retry_unreadable)


def _seconds_a_batch(dataset: ImageDataset, tasks: Sequence[Task]) -> float:
    embed_batch(dataset, tasks)  # the first pass pays for caches and lazy kernels
    started = perf_counter()
    embed_batch(dataset, tasks)
    return perf_counter() - started
