"""Jobs of an extraction: what each request has still to embed, and the model that does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.extraction.blocks import Job
from featurestore.extraction.compiled_backbone import CompiledBackbone, compile_backbones
from featurestore.extraction.contents import Contents
from featurestore.extraction.requests import (
    ExtractionOptions,
    ExtractionRequest,
    find_entry,
    pending_rows,
    provenance_of,
    row_fingerprints,
)
from featurestore.store.entry import FeatureEntry
from featurestore.store.layout.claims import Claims

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.store import FeatureStore


def find_jobs(
    dataset: ImageDataset,
    requests: Sequence[ExtractionRequest],
    rows: NDArray[np.int64],
    store: FeatureStore,
    options: ExtractionOptions,
    claims: Claims,
) -> list[Job]:
    """A job for each request; models are loaded only for those that are not complete.

    Args:
        dataset: The images.
        requests: What to extract.
        rows: int64 (n,), store row of each sample.
        store: Where the features go.
        options: See the extraction.
        claims: Keep other processes from the blocks in which fingerprints are renewed.
    """
    contents = Contents(dataset, options.worker_count)

    def job(one: ExtractionRequest, entry: FeatureEntry, model: CompiledBackbone | None) -> Job:
        fingerprints = row_fingerprints(dataset.table, one.preprocessing)
        retry = options.retry_unreadable
        pending = pending_rows(entry, one, rows, fingerprints, retry_unreadable=retry)
        compared = contents.compare(entry, one, rows, fingerprints, pending=pending, every=options.checksum)
        renewal = _Renewal(entry, rows, fingerprints, dataset.table.id_hashes)
        renewal.write(compared.same & pending, claims)
        return Job(one, entry, (pending & ~compared.same) | compared.changed, compared.changed, model)

    known = {one: find_entry(one, dataset.table.name, store) for one in requests}
    held = {one: job(one, store.mend(entry), None) for one, entry in known.items() if entry}
    complete = {one: found for one, found in held.items() if not found.pending.any()}
    models = compile_backbones([one for one in requests if one not in complete], options, dataset.decoder)
    placed = {one: job(one, _place(one, model, dataset, store, options), model) for one, model in models.items()}
    return [complete.get(one) or placed[one] for one in requests]


@dataclass(frozen=True)
class _Renewal:
    """Current fingerprints of the samples of one entry; n samples.

    Attributes:
        entry: The features.
        rows: int64 (n,), store row of each sample.
        fingerprints: uint64 (n,), current fingerprints.
        id_hashes: uint64 (n,), hashes of the sample ids.
    """

    entry: FeatureEntry
    rows: NDArray[np.int64]
    fingerprints: NDArray[np.uint64]
    id_hashes: NDArray[np.uint64]

    def write(self, same: NDArray[np.bool_], claims: Claims) -> None:
        """Note the fingerprints of samples whose images are the same, so that they are not compared again.

        Blocks that another process writes to are left to the next time.
        """
        samples = np.flatnonzero(same)
        samples = samples[np.argsort(self.rows[samples])]
        blocks = self.rows[samples] // self.entry.block_rows
        for block in np.unique(blocks).tolist():
            if claims.acquire(self.entry.path, block):
                own = samples[blocks == block]
                self.entry.renew(self.rows[own], self.fingerprints[own], self.id_hashes[own])
                claims.release(self.entry.path, block)


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
        provenance_of(dataset, model.backbone, request, options) | dict(model.forward.notes),
    )
    entry.add_request(request.digest)
    return entry
