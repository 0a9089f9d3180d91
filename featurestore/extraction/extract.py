"""extract_features: images -> preprocessing -> frozen backbones -> store, each image decoded once.

Workers, one thread a processor, each take a batch through decoding, preprocessing and all forwards, while one writer
commits finished blocks; see `featurestore.extraction.blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.extraction.blocks import BlockPlan, Job, Progress, run_plan
from featurestore.extraction.compiled_backbone import CompiledBackbone, compile_backbones
from featurestore.extraction.contents import Contents
from featurestore.extraction.embedding import Costs
from featurestore.extraction.requests import (
    ExtractionOptions,
    ExtractionRequest,
    find_entry,
    list_requests,
    pending_rows,
    provenance_of,
    row_fingerprints,
)
from featurestore.store.entry import FeatureEntry

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.store import FeatureStore


@dataclass(frozen=True)
class Extracted:
    """One backbone at one variant after an extraction.

    Attributes:
        entry: Its features in the store.
        embedded: Rows embedded by this call; 0 when everything stood in the store already.
        unreadable: sample id -> reason, for all rows marked unreadable.
    """

    entry: FeatureEntry
    embedded: int
    unreadable: Mapping[str, str]


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did and what it cost.

    Attributes:
        dataset: Name of the dataset.
        store: Path of the store.
        features: One entry for each backbone at each variant.
        costs: Seconds summed over workers, and counts.
        seconds: Wall time.
    """

    dataset: str
    store: str
    features: tuple[Extracted, ...]
    costs: Costs
    seconds: float

    @property
    def weights_check(self) -> str:
        """A line for each backbone whose weights came under other names: how they were matched."""
        checks = {one.entry.backbone: one.entry.provenance.get("weights_check") for one in self.features}
        return "\n".join(f"{backbone}: {check}." for backbone, check in checks.items() if check)

    @property
    def unreadable(self) -> dict[str, str]:
        """Sample id -> reason, over all features."""
        return {sample: reason for one in self.features for sample, reason in one.unreadable.items()}


def extract_features(
    dataset: ImageDataset,
    backbones: Sequence[str],
    variants: Sequence[str],
    store: FeatureStore,
    options: ExtractionOptions | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = perf_counter,
) -> ExtractionReport:
    """Embed every image of `dataset` by every backbone at every variant into `store`.

    What the store holds already is not computed again; an interrupted extraction goes on where it stopped.

    Args:
        dataset: The images.
        backbones: Names of backbones.
        variants: Names or specs of preprocessing variants.
        store: A store opened for writing.
        options: Weights, engine, precision, batch size and so on.
        progress: Called with (images whose features are committed, images in all) as work proceeds.
        clock: Seconds from any start: parts of a block are committed every half minute.

    Raises:
        SkyprobeError: An unknown name, weights that cannot be had, a store that cannot be written. Unreadable images
            raise nothing: they are marked and reported.
    """
    started = perf_counter()
    options = options or ExtractionOptions()
    rows = store.put_dataset(dataset.table, check=True)
    costs = Costs()
    with costs.timed("load"):
        jobs = _find_jobs(dataset, list_requests(dataset, backbones, variants, options, store), rows, store, options)
    pending = [job for job in jobs if job.pending.any()]
    if pending:
        run_plan(BlockPlan(dataset, pending, rows, store.block_rows, options), costs, progress, clock)
    extracted = tuple(Extracted(job.entry, int(job.pending.sum()), job.entry.unreadable()) for job in jobs)
    return ExtractionReport(dataset.table.name, store.path, extracted, costs, perf_counter() - started)


def _find_jobs(
    dataset: ImageDataset,
    requests: Sequence[ExtractionRequest],
    rows: NDArray[np.int64],
    store: FeatureStore,
    options: ExtractionOptions,
) -> list[Job]:
    """A job for each request; models are loaded only for those that are not complete."""
    contents = Contents(dataset, options.worker_count)

    def job(one: ExtractionRequest, entry: FeatureEntry, model: CompiledBackbone | None) -> Job:
        fingerprints = row_fingerprints(dataset.table, one.preprocessing)
        retry = options.retry_unreadable
        pending = pending_rows(entry, one, rows, fingerprints, retry_unreadable=retry)
        compared = contents.compare(entry, one, rows, fingerprints, every=options.checksum)
        _renew(entry, compared.same & pending, rows, fingerprints, dataset.table.id_hashes)
        return Job(one, entry, (pending & ~compared.same) | compared.changed, model)

    known = {one: find_entry(one, dataset.table.name, store) for one in requests}
    held = {one: job(one, store.mend(entry), None) for one, entry in known.items() if entry}
    complete = {one: found for one, found in held.items() if not found.pending.any()}
    models = compile_backbones([one for one in requests if one not in complete], options, dataset.decoder)
    placed = {one: job(one, _place(one, model, dataset, store, options), model) for one, model in models.items()}
    return [complete.get(one) or placed[one] for one in requests]


def _renew(
    entry: FeatureEntry,
    same: NDArray[np.bool_],
    rows: NDArray[np.int64],
    fingerprints: NDArray[np.uint64],
    id_hashes: NDArray[np.uint64],
) -> None:
    """Note the new fingerprints of samples whose images are the same, so that they are not compared again."""
    samples = np.flatnonzero(same)
    samples = samples[np.argsort(rows[samples])]
    entry.renew(rows[samples], fingerprints[samples], id_hashes[samples])


def _place(
    request: ExtractionRequest,
    model: CompiledBackbone,
    dataset: ImageDataset,
    store: FeatureStore,
    options: ExtractionOptions,
) -> FeatureEntry:
    """The entry of the request's key, made where there is none; the request is noted for the next time."""
    entry = store.create(
        dataset.table.name,
        request.variant,
        request.spec.name,
        request.key(model.backbone),
        model.shapes,
        provenance_of(dataset, model.backbone, request, options),
    )
    entry.add_request(request.digest)
    return entry
