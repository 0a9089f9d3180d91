"""Blocks of an extraction: workers embed batch after batch, one writer commits.

Batches have fixed slots inside fixed blocks, so that the bytes depend neither on the number of workers nor on what was
interrupted before. A block is committed when it is whole, and what is done of it when that takes long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import BackboneError
from featurestore.extraction.compiled_backbone import CompiledBackbone
from featurestore.extraction.embedding import EMPTY, Costs, Embedded, embed_batch, pad_slots
from featurestore.extraction.requests import ExtractionOptions, ExtractionRequest, row_fingerprints
from featurestore.store.entry import MISSING, Block, FeatureEntry

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset

Progress = Callable[[int, int], None]
"""Called with (images whose features are committed, images in all)."""

_BATCHES_AT_ONCE = 4
"""Batches that a worker decodes before it forwards them, where networks are small: what decoding and forwarding keep in
the processor's cache drives the other's out, the less often the better."""

_SHARES = 16
"""So many times that many images must be there for each worker: at the end, all wait for the one that has a batch."""

_OPEN_BLOCKS = 2
"""Blocks in flight besides the one being written: enough that no worker waits, few enough to bound memory."""

COMMIT_SECONDS = 30.0
"""What is embedded of a block is committed after so long, whole or not: more than that is never lost by a kill."""


@dataclass(frozen=True)
class Job:
    """One backbone at one variant, and where its features go.

    Attributes:
        request: What to extract.
        entry: Where the features stand.
        pending: bool (n,), dataset rows to embed.
        model: The loaded backbone; None where nothing is pending, and none was loaded to find that out.
    """

    request: ExtractionRequest
    entry: FeatureEntry
    pending: NDArray[np.bool_]
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
        self.workers = options.worker_count
        self.batch_size = self._images_at_once(options.batch_size_on(jobs[0].request.runtime.device))

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

    def batches(self, block: int) -> Iterator[dict[int, NDArray[np.int64]]]:
        """For each batch of a block: job number -> slots, always full length, so that shapes stay fixed."""
        samples = self.samples(block)
        for start in range(0, len(samples), self.batch_size):
            slots = pad_slots(samples[start : start + self.batch_size], self.batch_size)
            asked = [np.where((slots != EMPTY) & job.pending[slots], slots, EMPTY) for job in self.jobs]
            yield {number: own for number, own in enumerate(asked) if (own != EMPTY).any()}

    def embed(self, slots: Mapping[int, NDArray[np.int64]]) -> _Result:
        """One batch through every job that wants something of it."""
        from featurestore.backbones.engines.torch import one_thread

        if not slots:
            return {}, Costs()
        tasks = [self.jobs[n].loaded.task(self.jobs[n].request.preprocessing, own) for n, own in slots.items()]
        with one_thread(self.threads):
            embedded, costs = embed_batch(self.dataset, tasks)
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


_Result = tuple[dict[int, Embedded], Costs]


def _copy(piece: Embedded, data: Block, start: int) -> None:
    rows = slice(start, min(start + len(piece.state), len(data.state)))
    length = rows.stop - rows.start
    data.state[rows] = piece.state[:length]
    data.content[rows] = piece.content[:length]
    for name, values in piece.values.items():
        data.values[name][rows] = values[:length]


class _Commits:
    """Blocks on their way into the store, one at a time, and how many images have arrived there."""

    def __init__(self, plan: BlockPlan, writer: ThreadPoolExecutor, costs: Costs, progress: Progress | None) -> None:
        self._plan, self._writer, self._costs, self._progress = plan, writer, costs, progress
        self._writing: deque[tuple[Future[Costs], int]] = deque()
        self._committed = 0

    def add(self, block: int, results: Sequence[Mapping[int, Embedded]], images: int) -> None:
        """Commit what is embedded of a block, when the one before has arrived."""
        self.wait()
        self._writing.append((self._writer.submit(self._plan.write, block, results), images))

    def wait(self, *, only_if_done: bool = False) -> None:
        """Wait for what is being written; or only look whether it has arrived."""
        while self._writing and (not only_if_done or self._writing[0][0].done()):
            future, images = self._writing.popleft()
            self._costs.add(future.result())
            self._committed += images
            if self._progress:
                self._progress(self._committed, self._plan.total)


def _submitted(plan: BlockPlan, workers: ThreadPoolExecutor) -> Iterator[tuple[int, list[Future[_Result]]]]:
    """Blocks in order, with a few submitted ahead of the one that is handed out."""
    opened: deque[tuple[int, list[Future[_Result]]]] = deque()
    for block in plan.blocks():
        opened.append((block, [workers.submit(plan.embed, slots) for slots in plan.batches(block)]))
        if len(opened) > _OPEN_BLOCKS:
            yield opened.popleft()
    yield from opened


def run_plan(plan: BlockPlan, costs: Costs, progress: Progress | None, clock: Callable[[], float]) -> None:
    """Workers embed, the writer commits; both stop at the first error, and what was committed stays.

    Args:
        plan: What to do.
        costs: To which the costs are added.
        progress: Called as images are committed.
        clock: Seconds, from any start.
    """
    with ThreadPoolExecutor(plan.workers, "worker") as workers, ThreadPoolExecutor(1, "writer") as writer:
        commits = _Commits(plan, writer, costs, progress)
        try:
            for block, futures in _submitted(plan, workers):
                started, images = clock(), 0
                results: list[Mapping[int, Embedded]] = []
                for future in futures:
                    embedded, spent = future.result()
                    results.append(embedded)
                    costs.add(spent)
                    images += spent.images
                    commits.wait(only_if_done=True)
                    if len(results) < len(futures) and clock() - started >= COMMIT_SECONDS:
                        commits.add(block, results, images)
                        started, images, results = clock(), 0, [{} for _ in results]
                commits.add(block, results, images)
            commits.wait()
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise
