"""extract_features: images -> preprocessing -> frozen backbones -> store, each image decoded once.

Workers, one thread a processor, each take a batch through decoding, preprocessing and all forwards, while one writer
commits finished blocks; see `featurestore.extraction.processing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

from featurestore.extraction.blocks import BlockPlan
from featurestore.extraction.embedding import Costs
from featurestore.extraction.jobs import find_jobs
from featurestore.extraction.processing import Hooks, Processed, Progress, process_blocks
from featurestore.extraction.requests import ExtractionOptions, list_requests
from featurestore.store.entry import FeatureEntry
from featurestore.store.layout.claims import Claims

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.store import FeatureStore


@dataclass(frozen=True)
class Extracted:
    """One backbone at one variant after an extraction.

    Attributes:
        entry: Its features in the store.
        embedded: Rows embedded by this call; 0 when everything was in the store already.
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


class Extraction:
    """One extraction in this process: what there is to do, and the models that do it.

    Args:
        dataset: The images.
        backbones: Names of backbones.
        variants: Names or specs of preprocessing variants.
        store: A store opened for writing.
        options: Weights, engine, precision, batch size and so on.
        claims: Keep other processes from what this one writes.

    Attributes:
        costs: Of loading the models.
        plan: Which rows of which block go through which forwards; None where nothing is to do.

    Raises:
        SkyprobeError: An unknown name, weights that cannot be had, a store that cannot be written.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        backbones: Sequence[str],
        variants: Sequence[str],
        store: FeatureStore,
        options: ExtractionOptions,
        claims: Claims,
    ) -> None:
        self._started = perf_counter()
        self._name, self._store, self._claims = dataset.table.name, store, claims
        self.costs = Costs()
        rows = store.put_dataset(dataset.table, check=True)
        with self.costs.timed("load"):
            requests = list_requests(dataset, backbones, variants, options, store)
            self._jobs = find_jobs(dataset, requests, rows, store, options, claims)
        pending = [job for job in self._jobs if job.pending.any()]
        block_rows = store.block_rows(self._name)
        self.plan = BlockPlan(dataset, pending, rows, block_rows, options) if pending else None

    @property
    def blocks(self) -> list[int]:
        """Numbers of the blocks with something to do, in store order."""
        return self.plan.blocks() if self.plan else []

    def process(self, blocks: Sequence[int], hooks: Hooks | None = None, rows: range | None = None) -> Processed:
        """See `featurestore.extraction.processing.process_blocks`."""
        return process_blocks(self.plan, blocks, self._claims, hooks, rows) if self.plan else Processed()

    def report(self, processed: Processed) -> ExtractionReport:
        """What was done, here and in other processes."""
        self.costs.add(processed.costs)
        for job in self._jobs:
            job.entry.summarise()
        extracted = tuple(
            Extracted(job.entry, processed.embedded[job.request.digest], job.entry.unreadable()) for job in self._jobs
        )
        seconds = perf_counter() - self._started
        return ExtractionReport(self._name, self._store.path, extracted, self.costs, seconds)


def extract_features(
    dataset: ImageDataset,
    backbones: Sequence[str],
    variants: Sequence[str],
    store: FeatureStore,
    options: ExtractionOptions | None = None,
    progress: Progress | None = None,
    *,
    choose: Callable[[Sequence[int]], Sequence[int]] = lambda blocks: blocks,
    hooks: Hooks | None = None,
) -> ExtractionReport:
    """Embed every image of `dataset` by every backbone at every variant into `store`.

    What the store holds already is not computed again; an interrupted extraction goes on where it stopped. Several
    processes that extract the same into one store share the work.

    Args:
        dataset: The images.
        backbones: Names of backbones.
        variants: Names or specs of preprocessing variants.
        store: A store opened for writing.
        options: Weights, engine, precision, batch size and so on.
        progress: Called with (images whose features are committed, images in all) as work proceeds.
        choose: Picks blocks out of those with something to do.
        hooks: What else is told, and the time.

    Raises:
        SkyprobeError: An unknown name, weights that cannot be had, a store that cannot be written. Unreadable images
            raise nothing: they are marked and reported.
    """
    hooks = hooks or Hooks()
    hooks = replace(hooks, progress=progress) if progress else hooks
    with Claims(store.storage) as claims:
        extraction = Extraction(dataset, backbones, variants, store, options or ExtractionOptions(), claims)
        return extraction.report(extraction.process(choose(extraction.blocks), hooks))
