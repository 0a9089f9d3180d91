"""BlockPlan: which rows of which block go through which forwards, batch by batch.

Batches have fixed slots inside fixed blocks, so that the bytes depend neither on the number of workers nor on what was
interrupted before. What goes over the blocks is `featurestore.extraction.processing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import BackboneError
from featurestore.extraction.compiled_backbone import CompiledBackbone
from featurestore.extraction.decoding_pool import Decoding, open_decoding
from featurestore.extraction.embedding import EMPTY, Costs, Embedded, embed_batch, pad_slots
from featurestore.extraction.requests import ExtractionOptions, ExtractionRequest, row_fingerprints
from featurestore.store.entry import MISSING, UNREADABLE, Block, FeatureEntry

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset

Mask = NDArray[np.bool_]
Result = tuple[dict[int, Embedded], Costs]
"""Job number -> what one batch came to, and its costs."""

_BATCHES_AT_ONCE = 4
"""Batches that a worker decodes before it forwards them, where networks are small, as they never are on a GPU: what
decoding and forwarding keep in the processor's cache drives the other's out, the less often the better."""

_SHARES = 16
"""So many times that many images must be there for each worker: at the end, all wait for the one that has a batch."""


@dataclass(frozen=True)
class Job:
    """One backbone at one variant, and where its features go.

    Attributes:
        request: What to extract.
        entry: Where the features are.
        pending: bool (n,), dataset rows to embed.
        changed: bool (n,), those of them whose features are there, from an image with another content.
        model: The loaded backbone; None where nothing is pending, and none was loaded to find that out.
    """

    request: ExtractionRequest
    entry: FeatureEntry
    pending: Mask
    changed: Mask
    model: CompiledBackbone | None = None

    @property
    def loaded(self) -> CompiledBackbone:
        """The model of a job with pending rows."""
        if self.model is None:
            raise BackboneError("no model was loaded", where=self.request.spec.name, hint="Report this as a bug.")
        return self.model


class BlockPlan:
    """Which rows go through which forwards, block by block and batch by batch.

    Attributes:
        total: Images to decode.
        workers: Threads that decode and forward.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        jobs: Sequence[Job],
        rows: NDArray[np.int64],
        block_rows: int,
        options: ExtractionOptions,
    ) -> None:
        from torch import get_num_threads

        self.dataset, self.jobs, self.block_rows = dataset, jobs, block_rows
        self.fingerprints = [row_fingerprints(dataset.table, job.request.preprocessing) for job in jobs]
        self.sample_of = np.full(int(rows.max()) + 1, EMPTY, dtype=np.int64)
        self.sample_of[rows] = np.arange(len(rows))
        self.threads = get_num_threads()
        self.total = int(np.any([job.pending for job in jobs], axis=0).sum())
        self.workers, self.device = options.worker_count, jobs[0].request.runtime.device
        self._retry = options.retry_unreadable
        self.batch_size = self._images_at_once(options.batch_size_on(self.device))

    @cached_property
    def decoding(self) -> Decoding:
        """How batches get their pixels; on a GPU by processes that start when this is first asked for."""
        return open_decoding(self.dataset, self.device, self.workers, self.batch_size)

    def _images_at_once(self, batch_size: int) -> int:
        """Images that a worker takes from decoding to features: one batch of the forwards, or several."""
        several = _BATCHES_AT_ONCE * batch_size
        small = all(job.loaded.forward.small for job in self.jobs)
        return several if small and self.total >= _SHARES * self.workers * several else batch_size

    def blocks(self) -> list[int]:
        """Blocks with something to do, in store order."""
        pending = np.any([job.pending for job in self.jobs], axis=0)
        needed = (self.sample_of != EMPTY) & pending[self.sample_of]
        blocks: list[int] = np.unique(np.flatnonzero(needed) // self.block_rows).tolist()
        return blocks

    def samples(self, block: int) -> NDArray[np.int64]:
        """int64 (r,), the sample in each row of a block; `EMPTY` where the dataset no longer has it."""
        return self.sample_of[block * self.block_rows : (block + 1) * self.block_rows]

    def wanted(self, block: int) -> dict[int, Mask]:
        """Job number -> rows of a block that it had to embed when the plan was made; only jobs with any."""
        samples = self.samples(block)
        masks = {number: (samples != EMPTY) & job.pending[samples] for number, job in enumerate(self.jobs)}
        return {number: mask for number, mask in masks.items() if mask.any()}

    def still_wanted(self, block: int, number: int) -> Mask:
        """What a job has still to embed of a block, bool (r,): another writer may have done it meanwhile."""
        samples, job = self.samples(block), self.jobs[number]
        prints = np.where(samples == EMPTY, 0, self.fingerprints[number][samples]).astype(np.uint64)
        waiting = job.entry.pending_in(block, prints, job.request.poolings, retry_unreadable=self._retry)
        still: Mask = (samples != EMPTY) & job.pending[samples] & (waiting | job.changed[samples])
        return still

    def batches(self, block: int, wanted: Mapping[int, Mask]) -> Iterator[dict[int, NDArray[np.int64]]]:
        """For each batch of a block: job number -> slots, always full length, so that shapes stay fixed."""
        samples = self.samples(block)
        asked = {number: np.where(mask, samples, EMPTY) for number, mask in wanted.items()}
        for start in range(0, len(samples), self.batch_size):
            part = slice(start, start + self.batch_size)
            slots = {number: pad_slots(own[part], self.batch_size) for number, own in asked.items()}
            yield {number: own for number, own in slots.items() if (own != EMPTY).any()}

    def embed(self, slots: Mapping[int, NDArray[np.int64]]) -> Result:
        """One batch through every job that wants something of it."""
        from featurestore.backbones.engines.torch import one_thread

        if not slots:
            return {}, Costs()
        tasks = [self.jobs[n].loaded.task(self.jobs[n].request.preprocessing, own) for n, own in slots.items()]
        with one_thread(self.threads):
            embedded, costs = embed_batch(self.dataset, tasks, self.decoding.fill)
        return dict(zip(slots, embedded, strict=True)), costs

    def write(self, block: int, results: Sequence[Mapping[int, Embedded]]) -> Costs:
        """Commit one block for every job that has rows in it."""
        costs = Costs()
        with costs.timed("write"):
            for number, job in enumerate(self.jobs):
                pieces = [result.get(number) for result in results]
                if any(pieces):
                    job.entry.write_block(block, self._assemble(block, number, pieces))
        return costs

    def mark_unreadable(self, block: int, row: int, reason: str) -> None:
        """Commit that one row of a block cannot be embedded, for every job that wants it."""
        for number, mask in self.wanted(block).items():
            if mask[row]:
                data = self._assemble(block, number, [])
                data.state[row] = UNREADABLE
                self.jobs[number].entry.write_block(block, replace(data, reasons={row: reason}))

    def _assemble(self, block: int, number: int, pieces: Sequence[Embedded | None]) -> Block:
        samples, shapes = self.samples(block), self.jobs[number].loaded.shapes
        data = Block(
            values={name: np.zeros((len(samples), *shape), dtype=np.float32) for name, shape in shapes.items()},
            state=np.full(len(samples), MISSING, dtype=np.uint8),
            content=np.zeros((len(samples), 16), dtype=np.uint8),
            fingerprints=np.where(samples == EMPTY, 0, self.fingerprints[number][samples]).astype(np.uint64),
            sample_hashes=self.dataset.table.id_hashes[samples],
            reasons={
                index * self.batch_size + slot: reason
                for index, piece in enumerate(pieces)
                if piece
                for slot, reason in piece.reasons.items()
            },
        )
        for index, piece in enumerate(pieces):
            if piece:
                _copy(piece, data, index * self.batch_size)
        return data


def _copy(piece: Embedded, data: Block, start: int) -> None:
    rows = slice(start, min(start + len(piece.state), len(data.state)))
    length = rows.stop - rows.start
    data.state[rows] = piece.state[:length]
    data.content[rows] = piece.content[:length]
    for name, values in piece.values.items():
        data.values[name][rows] = values[:length]
