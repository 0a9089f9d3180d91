"""run_extraction: one extraction by several processes, on this machine or on those of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

from featurestore.errors import UsageError
from featurestore.extraction.executors.coordinator import Coordinator, Pool, close_quietly
from featurestore.extraction.executors.host import Order, owner_of
from featurestore.extraction.executors.local import LocalPool, list_devices
from featurestore.extraction.executors.ray import RayOptions, RayPool, connected
from featurestore.extraction.executors.slices import Slice
from featurestore.extraction.extract import Extracted, ExtractionReport, extract_features
from featurestore.extraction.processing import Hooks, Processed
from featurestore.extraction.requests import (
    ExtractionOptions,
    ExtractionRequest,
    find_entry,
    list_requests,
    pending_rows,
    row_fingerprints,
)
from featurestore.options import Amount, one_of
from featurestore.options import options as options_class
from featurestore.store.layout.claims import dismiss

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.store import FeatureStore

EXECUTORS = ("local", "ray")

_LOOK_SHARE = 20
"""Looking up progress may take this part of the time."""


@options_class
class ExecutorOptions:
    """What runs an extraction.

    Attributes:
        executor: ``local``: this machine; ``ray``: a Ray cluster.
        devices: Number of processes, or ``all``: one for each GPU; None: this process, or as many as the cluster has
            places for.
        ray_address: ``auto`` or HOST:PORT of a Ray cluster; None: one on this machine.
        gpus_per_worker: GPUs of each actor; None: one, or none on the CPU.
    """

    executor: Annotated[str, one_of("executor", EXECUTORS)] = "local"
    devices: str | None = None
    ray_address: str | None = None
    gpus_per_worker: Amount | None = None

    def __post_init__(self) -> None:
        if self.executor != "ray" and (self.ray_address or self.gpus_per_worker is not None):
            raise UsageError(
                "an address or GPUs of a Ray cluster, and no Ray", where="--executor", hint="Add --executor ray."
            )


def run_extraction(
    data: str,
    dataset: ImageDataset,
    backbones: Sequence[str],
    variants: Sequence[str],
    store: FeatureStore,
    options: ExtractionOptions,
    executor: ExecutorOptions,
    part: Slice,
    hooks: Hooks,
) -> ExtractionReport:
    """As `featurestore.extraction.extract.extract_features`, by what `executor` says.

    Args:
        data: The dataset, as `featurestore.datasets.open_dataset` takes it: other processes open it for themselves.
        dataset: The same, opened.
        backbones: Names of backbones.
        variants: Names or specs of preprocessing variants.
        store: A store opened for writing.
        options: How to extract.
        executor: What runs it.
        part: The slice of the blocks that is done.
        hooks: How to speak to the user.
    """
    if executor.executor == "local" and executor.devices is None:
        return extract_features(dataset, backbones, variants, store, options, choose=part.take, hooks=hooks)
    run = _Run(dataset, list_requests(dataset, backbones, variants, options, store), store, options, hooks)
    if run.is_complete():
        return run.report(Processed())
    where = store.path if "://" in store.path else str(Path(store.path).absolute())
    order = Order(data, tuple(backbones), tuple(variants), where, options, uuid4().hex[:8], str(Path.cwd()))
    with _started(order, executor, run.device) as pool:
        try:
            processed = Coordinator(pool, store.block_rows(dataset.table.name), run.look).run(part.take)
        finally:
            close_quietly(pool)
            for number in range(pool.size):
                dismiss(store.storage, owner_of(order, number))
    return run.report(processed)


@contextmanager
def _started(order: Order, executor: ExecutorOptions, device: str) -> Iterator[Pool]:
    """The processes, until the context ends."""
    if executor.executor == "local":
        devices = list_devices(executor.devices or "all", device)
        workers = max(1, order.options.worker_count // len(devices))
        yield LocalPool(replace(order, options=replace(order.options, workers=workers)), devices)
        return
    gpus = executor.gpus_per_worker if executor.gpus_per_worker is not None else float(device == "cuda")
    options = RayOptions(executor.ray_address, gpus, _count(executor.devices))
    with connected(executor.ray_address):
        yield RayPool(order, options)


def _count(devices: str | None) -> int | None:
    if devices in {None, "all"}:
        return None
    if not str(devices).isdecimal() or int(str(devices)) < 1:
        raise UsageError(f"{devices!r} devices", where="--devices", hint="Give the number of actors: --devices 2.")
    return int(str(devices))


class _Run:
    """What the first process knows: requests, and what the store says of them."""

    def __init__(
        self,
        dataset: ImageDataset,
        requests: Sequence[ExtractionRequest],
        store: FeatureStore,
        options: ExtractionOptions,
        hooks: Hooks,
    ) -> None:
        self._dataset, self._requests, self._store, self._options = dataset, requests, store, options
        self._progress, self._started = hooks.progress, perf_counter()
        self._next_look = 0.0
        self.device = requests[0].runtime.device

    def is_complete(self) -> bool:
        """Whether there is nothing to do: then no process is started."""
        table, rows = self._dataset.table, self._store.put_dataset(self._dataset.table, check=True)
        retry = self._options.retry_unreadable
        return not self._options.checksum and not any(
            pending_rows(
                find_entry(one, table.name, self._store),
                one,
                rows,
                row_fingerprints(table, one.preprocessing),
                retry_unreadable=retry,
            ).any()
            for one in self._requests
        )

    def look(self) -> None:
        """Tell how many rows the store says are finished; not so often that it costs."""
        started = monotonic()
        if started < self._next_look:
            return
        entries = [find_entry(one, self._dataset.table.name, self._store) for one in self._requests]
        missing = [entry.counts().missing for entry in entries if entry]
        total = len(self._dataset.table)
        if len(missing) == len(entries):
            self._progress(total - max(missing), total)
        self._next_look = monotonic() + _LOOK_SHARE * (monotonic() - started)

    def report(self, processed: Processed) -> ExtractionReport:
        """What all processes did."""
        if processed.embedded:
            self._next_look = 0.0
            self.look()
        name = self._dataset.table.name
        entries = {one: entry for one in self._requests if (entry := find_entry(one, name, self._store))}
        for entry in entries.values():
            entry.summarise()
        extracted = tuple(
            Extracted(entry, processed.embedded[one.digest], entry.unreadable()) for one, entry in entries.items()
        )
        seconds = perf_counter() - self._started
        return ExtractionReport(name, self._store.path, extracted, processed.costs, seconds)
