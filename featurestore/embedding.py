"""From dataset rows to embeddings, in memory: one batch, decoded once for all variants and backbones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import PreprocessingError, UnreadableImageError
from featurestore.feature_arrays import DONE, MISSING, UNREADABLE
from featurestore.preprocessing import Preprocessing

if TYPE_CHECKING:
    from featurestore.backbones.runtime import Forward
    from featurestore.datasets.base import ImageDataset, Sample

EMPTY = -1
"""A slot of a batch without a sample."""

_NO_BOXES = np.empty((0, 4), dtype=np.float32)


@dataclass
class Costs:
    """Where time went, in seconds summed over lanes, and how much was done.

    Attributes:
        load: Loading and compiling models, once, before the lanes start.
        decode: Reading and decoding.
        preprocess: Stretch, crop, resize, channel rule.
        forward: Normalisation, backbone, pooling.
        write: Committing blocks to the store.
        images: Images decoded.
        forwards: Images forwarded, summed over backbones and variants.
    """

    load: float = 0.0
    decode: float = 0.0
    preprocess: float = 0.0
    forward: float = 0.0
    write: float = 0.0
    images: int = 0
    forwards: int = 0

    def add(self, other: Costs) -> None:
        """Add another lane's costs."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to `phase`."""
        started = perf_counter()
        try:
            yield
        finally:
            setattr(self, phase, getattr(self, phase) + perf_counter() - started)


@dataclass(frozen=True)
class Embedded:
    """Embeddings of one batch by one backbone at one variant; B slots.

    Attributes:
        values: Pooling -> float32 (B, d), or (B, h, w, d) of dense features.
        state: uint8 (B,): done, unreadable, or missing for slots that were not asked for.
        content: uint8 (B, 16): digest of the image (and of its boxes, where the crop follows them).
        reasons: Slot -> why it is unreadable.
    """

    values: Mapping[str, NDArray[np.float32]]
    state: NDArray[np.uint8]
    content: NDArray[np.uint8]
    reasons: Mapping[int, str]


@dataclass(frozen=True)
class Task:
    """What one backbone is to make of a batch.

    Attributes:
        preprocessing: What the images go through.
        forward: The compiled backbone; tasks that share it and the preprocessing share its pass.
        slots: int64 (B,), dataset row in each slot; `EMPTY` where this task wants none.
        outputs: Pooling -> its name among the outputs of `forward`.
    """

    preprocessing: Preprocessing
    forward: Forward
    slots: NDArray[np.int64]
    outputs: Mapping[str, str]


@dataclass
class _Batch:
    """Pixels of one variant and what became of each slot."""

    pixels: NDArray[np.float32]
    content: NDArray[np.uint8]
    ready: NDArray[np.bool_]
    reasons: dict[int, str] = field(default_factory=dict)


def pad_slots(rows: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """int64 (size,): at most `size` rows in the first slots, `EMPTY` in the others; a forward's shape is fixed."""
    slots = np.full(size, EMPTY, dtype=np.int64)
    slots[: len(rows)] = rows
    return slots


def embed_batch(dataset: ImageDataset, tasks: Sequence[Task]) -> tuple[list[Embedded], Costs]:
    """Embed one batch by all `tasks`; each row is decoded once, each variant preprocessed once, layers share a pass.

    Unreadable images are marked with their reason and do not stop the others.
    """
    costs = Costs()
    slots = _union(tasks)
    with costs.timed("decode"):
        samples, unreadable = _read(dataset, slots)
    costs.images += int((slots != EMPTY).sum())
    batches: dict[Preprocessing, _Batch] = {}
    with costs.timed("preprocess"):
        for preprocessing in {task.preprocessing: None for task in tasks}:
            wanted = _union([task for task in tasks if task.preprocessing == preprocessing])
            batches[preprocessing] = _preprocess(preprocessing, dataset, wanted, samples, unreadable)
    passes: dict[tuple[int, Preprocessing], list[Task]] = {}
    for task in tasks:
        passes.setdefault((id(task.forward), task.preprocessing), []).append(task)
    values = {one: _forward(sharing, batches[one[1]], costs) for one, sharing in passes.items()}
    return [
        _embedded(task, batches[task.preprocessing], values[id(task.forward), task.preprocessing]) for task in tasks
    ], costs


def _union(tasks: Sequence[Task]) -> NDArray[np.int64]:
    """The row in each slot that any of the tasks wants; they agree where several do."""
    union: NDArray[np.int64] = np.max([task.slots for task in tasks], axis=0)
    return union


def _read(dataset: ImageDataset, slots: NDArray[np.int64]) -> tuple[dict[int, Sample], dict[int, str]]:
    samples, reasons = {}, {}
    for slot, row in enumerate(slots.tolist()):
        if row == EMPTY:
            continue
        try:
            samples[slot] = dataset.read(row)
        except UnreadableImageError as error:
            reasons[slot] = error.what
    return samples, reasons


def _preprocess(
    preprocessing: Preprocessing,
    dataset: ImageDataset,
    slots: NDArray[np.int64],
    samples: Mapping[int, Sample],
    unreadable: Mapping[int, str],
) -> _Batch:
    side, size = preprocessing.resize, len(slots)
    batch = _Batch(
        pixels=np.zeros((size, preprocessing.n_channels, side, side), dtype=np.float32),
        content=np.zeros((size, 16), dtype=np.uint8),
        ready=np.zeros(size, dtype=bool),
        reasons=dict(unreadable),
    )
    for slot, sample in samples.items():
        if slots[slot] == EMPTY:
            continue
        boxes = _boxes(preprocessing, dataset, int(slots[slot]))
        batch.content[slot] = np.frombuffer(_content(sample, boxes), dtype=np.uint8)
        try:
            batch.pixels[slot] = preprocessing.apply(sample.image, boxes)
            batch.ready[slot] = True
        except PreprocessingError as error:
            batch.reasons[slot] = error.what
    return batch


def _boxes(preprocessing: Preprocessing, dataset: ImageDataset, row: int) -> NDArray[np.float32]:
    boxes = dataset.table.boxes
    return boxes.of(row) if preprocessing.uses_boxes and boxes is not None else _NO_BOXES


def _content(sample: Sample, boxes: NDArray[np.float32]) -> bytes:
    """The image's digest; with boxes, which then decide the pixels too, one over both."""
    if not len(boxes):
        return sample.digest
    return blake2b(sample.digest + boxes.tobytes(), digest_size=16).digest()


def _forward(sharing: Sequence[Task], batch: _Batch, costs: Costs) -> Mapping[str, NDArray[np.float32]]:
    """Outputs of the one pass that several tasks share; zeros where it would have nothing to do."""
    forward, slots = sharing[0].forward, _union(sharing)
    ready = (slots != EMPTY) & batch.ready
    if not ready.any():
        return {name: np.zeros((len(slots), *shape), np.float32) for name, shape in forward.shapes.items()}
    costs.forwards += int(ready.sum())
    with costs.timed("forward"):
        return forward(batch.pixels)


def _embedded(task: Task, batch: _Batch, values: Mapping[str, NDArray[np.float32]]) -> Embedded:
    asked = task.slots != EMPTY
    state = np.where(asked, np.where(batch.ready, DONE, UNREADABLE), MISSING).astype(np.uint8)
    reasons = {slot: reason for slot, reason in batch.reasons.items() if asked[slot]}
    own = {pooling: values[output] for pooling, output in task.outputs.items()}
    return Embedded(own, state, batch.content, reasons)
