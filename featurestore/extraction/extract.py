"""extract_features: images -> preprocessing -> frozen backbones -> store, each image decoded once.

Workers, one thread a processor, each take a batch through decoding, preprocessing and all forwards, while one writer
commits finished blocks. Batches have fixed slots inside fixed blocks, so that the bytes depend neither on the number
of workers nor on what was interrupted before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import BackboneError
from featurestore.extraction.contents import Contents
from featurestore.extraction.embedding import EMPTY, Costs, Embedded, Task, embed_batch, pad_slots
from featurestore.extraction.requests import (
    ExtractionOptions,
    ExtractionRequest,
    find_entry,
    list_requests,
    pending_rows,
    provenance_of,
    row_fingerprints,
)
from featurestore.store.entry import MISSING, Block, FeatureEntry

if TYPE_CHECKING:
    from featurestore.backbones.base import Backbone
    from featurestore.backbones.engines.base import Forward
    from featurestore.datasets.base import ImageDataset
    from featurestore.preprocessing import Preprocessing
    from featurestore.store import FeatureStore

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

_BATCHES_AT_ONCE = 4
"""Batches that a worker decodes before it forwards them, where networks are small: what decoding and forwarding keep in
the processor's cache drives the other's out, the less often the better."""

_SHARES = 16
"""So many times that many images must be there for each worker: at the end, all wait for the one that has a batch."""

_OPEN_BLOCKS = 2
"""Blocks in flight besides the one being written: enough that no worker waits, few enough to bound memory."""


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
    def unreadable(self) -> dict[str, str]:
        """Sample id -> reason, over all features."""
        return {sample: reason for one in self.features for sample, reason in one.unreadable.items()}


@dataclass(frozen=True)
class CompiledBackbone:
    """A backbone, loaded, and compiled for one input size.

    Attributes:
        backbone: The loaded backbone.
        forward: Its compiled pass, which may serve several layers.
        outputs: Pooling -> its name among the outputs of `forward`.
    """

    backbone: Backbone
    forward: Forward
    outputs: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Pooling -> shape of one image's features."""
        return {pooling: self.forward.shapes[output] for pooling, output in self.outputs.items()}

    def task(self, preprocessing: Preprocessing, slots: NDArray[np.int64]) -> Task:
        """What to make of one batch; see `featurestore.extraction.embedding.Task`."""
        return Task(preprocessing, self.forward, slots, self.outputs)


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


def extract_features(
    dataset: ImageDataset,
    backbones: Sequence[str],
    variants: Sequence[str],
    store: FeatureStore,
    options: ExtractionOptions | None = None,
    progress: Progress | None = None,
) -> ExtractionReport:
    """Embed every image of `dataset` by every backbone at every variant into `store`.

    What the store holds already is not computed again; an interrupted extraction goes on where it stopped.

    Args:
        dataset: The images.
        backbones: Names of backbones.
        variants: Names or specs of preprocessing variants.
        store: A store opened for writing.
        options: Weights, engine, precision, batch size and so on.
        progress: Called with (images done, images in all) as work proceeds.

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
        _run(_BlockPlan(dataset, pending, rows, store.block_rows, options), costs, progress)
    extracted = tuple(Extracted(job.entry, int(job.pending.sum()), job.entry.unreadable()) for job in jobs)
    return ExtractionReport(dataset.table.name, store.path, extracted, costs, perf_counter() - started)


def compile_backbones(
    requests: Sequence[ExtractionRequest], options: ExtractionOptions, decoder: str
) -> dict[ExtractionRequest, CompiledBackbone]:
    """Load and compile; variants of one input size share a model, and layers of one backbone a pass.

    Args:
        requests: What to extract.
        options: See the extraction.
        decoder: Of the dataset: pixels of all but FITS are expected to be 8-bit, where nothing stretches them.
    """
    from featurestore.backbones.engines.base import compile_forward
    from featurestore.backbones.loading import load_backbone

    networks: dict[tuple[str, int, int], list[ExtractionRequest]] = {}
    for one in requests:
        networks.setdefault(one.network, []).append(one)
    models: dict[ExtractionRequest, CompiledBackbone] = {}
    for (name, size, n_channels), members in networks.items():
        first = members[0]
        backbone = load_backbone(name, first.weights, size, options.trust_remote_code, n_channels)
        outputs = list(dict.fromkeys(output for one in members for output in one.outputs.values()))
        batch_size, workers = options.batch_size_on(first.runtime.device), options.worker_count
        eight_bit = decoder != "astropy" and all(one.preprocessing.keeps_bytes for one in members)
        forward = compile_forward(backbone, outputs, first.runtime, batch_size, size, workers, eight_bit=eight_bit)
        models |= {one: CompiledBackbone(replace(backbone, spec=one.spec), forward, one.outputs) for one in members}
    return {one: models[one] for one in requests}


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
    held = {one: job(one, entry, None) for one, entry in known.items() if entry}
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


class _BlockPlan:
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


def _submitted(plan: _BlockPlan, workers: ThreadPoolExecutor) -> Iterator[tuple[int, list[Future[_Result]]]]:
    """Blocks in order, with a few submitted ahead of the one that is handed out."""
    opened: deque[tuple[int, list[Future[_Result]]]] = deque()
    for block in plan.blocks():
        opened.append((block, [workers.submit(plan.embed, slots) for slots in plan.batches(block)]))
        if len(opened) > _OPEN_BLOCKS:
            yield opened.popleft()
    yield from opened


def _run(plan: _BlockPlan, costs: Costs, progress: Progress | None) -> None:
    """Workers embed, the writer commits; both stop at the first error, and finished blocks stay."""
    with ThreadPoolExecutor(plan.workers, "worker") as workers, ThreadPoolExecutor(1, "writer") as writer:
        writing: deque[Future[Costs]] = deque()
        try:
            for block, futures in _submitted(plan, workers):
                results = []
                for future in futures:
                    embedded, spent = future.result()
                    results.append(embedded)
                    costs.add(spent)
                    if progress:
                        progress(costs.images, plan.total)
                while writing:
                    costs.add(writing.popleft().result())
                writing.append(writer.submit(plan.write, block, results))
            while writing:
                costs.add(writing.popleft().result())
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise
