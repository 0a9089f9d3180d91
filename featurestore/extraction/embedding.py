"""From dataset rows to embeddings, in memory: one batch, decoded once for all variants and backbones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import PreprocessingError, UnreadableImageError
from featurestore.preprocessing import Preprocessing, to_unit
from featurestore.store.entry import DONE, MISSING, UNREADABLE

if TYPE_CHECKING:
    from featurestore.backbones.engines.base import Forward
    from featurestore.datasets.base import ImageDataset, Sample
    from featurestore.samples import SampleTable

_Key = TypeVar("_Key", bound=Hashable)

EMPTY = -1
"""A slot of a batch without a sample."""

_NO_BOXES = np.empty((0, 4), dtype=np.float32)


@dataclass
class Costs:
    """Where time went, in seconds summed over workers, and how much was done.

    Attributes:
        load: Loading and compiling models, once, before the workers start.
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
        """Add another worker's costs."""
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
        slots: int64 (B,), dataset row in each slot; `EMPTY` where this task wants none. B is a whole number of the
            forward's batches.
        outputs: Pooling -> its name among the outputs of `forward`.
    """

    preprocessing: Preprocessing
    forward: Forward
    slots: NDArray[np.int64]
    outputs: Mapping[str, str]


class _Batch:
    """What one variant makes of the images of a batch.

    Attributes:
        slots: int64 (B,), dataset row in each slot; `EMPTY` where no task wants one.
        content: uint8 (B, 16), digest of what decides the pixels.
        ready: bool (B,), slots with pixels.
        reasons: Slot -> why it has none.
    """

    def __init__(self, preprocessing: Preprocessing, slots: NDArray[np.int64], table: SampleTable) -> None:
        self._preprocessing, self.slots = preprocessing, slots
        self._boxes = table.boxes if preprocessing.uses_boxes else None
        self._pixels: NDArray[Any] | None = None
        self.content = np.zeros((len(slots), 16), dtype=np.uint8)
        self.ready = np.zeros(len(slots), dtype=bool)
        self.reasons: dict[int, str] = {}

    @property
    def pixels(self) -> NDArray[Any]:
        """(B, C, S, S), zero where not ready: uint8, or float32 as soon as one image is."""
        return np.zeros(0, np.uint8) if self._pixels is None else self._pixels

    def add(self, slot: int, sample: Sample) -> None:
        """Put an image into its slot, if it is wanted there."""
        if self.slots[slot] == EMPTY:
            return
        boxes = self._boxes.of(int(self.slots[slot])) if self._boxes else _NO_BOXES
        self.content[slot] = np.frombuffer(content_digest(sample.digest, boxes), dtype=np.uint8)
        try:
            self._put(slot, self._preprocessing.render(sample.image, boxes))
        except PreprocessingError as error:
            self.reasons[slot] = error.what

    def _put(self, slot: int, image: NDArray[Any]) -> None:
        if self._pixels is None:
            self._pixels = np.zeros((len(self.slots), *image.shape), image.dtype)
        if image.dtype != self._pixels.dtype:
            self._pixels, image = to_unit(self._pixels), to_unit(image)
        self._pixels[slot] = image
        self.ready[slot] = True


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
    batches = {
        preprocessing: _Batch(preprocessing, _union(sharing), dataset.table)
        for preprocessing, sharing in _grouped(tasks, lambda task: task.preprocessing).items()
    }
    _fill(batches.values(), _union(tasks), dataset, costs)
    passes = _grouped(tasks, lambda task: (id(task.forward), task.preprocessing))
    values = {one: _forward(sharing, batches[one[1]], costs) for one, sharing in passes.items()}
    return [
        _embedded(task, batches[task.preprocessing], values[id(task.forward), task.preprocessing]) for task in tasks
    ], costs


def _grouped(tasks: Sequence[Task], key: Callable[[Task], _Key]) -> dict[_Key, list[Task]]:
    groups: dict[_Key, list[Task]] = {}
    for task in tasks:
        groups.setdefault(key(task), []).append(task)
    return groups


def _union(tasks: Sequence[Task]) -> NDArray[np.int64]:
    """The row in each slot that any of the tasks wants; they agree where several do."""
    union: NDArray[np.int64] = np.max([task.slots for task in tasks], axis=0)
    return union


def _fill(batches: Collection[_Batch], slots: NDArray[np.int64], dataset: ImageDataset, costs: Costs) -> None:
    """Image after image through decoding and every variant: it is used while it is in the processor's cache."""
    for slot, row in enumerate(slots.tolist()):
        if row == EMPTY:
            continue
        costs.images += 1
        try:
            with costs.timed("decode"):
                sample = dataset.read(row)
        except UnreadableImageError as error:
            for batch in batches:
                batch.reasons[slot] = error.what
            continue
        with costs.timed("preprocess"):
            for batch in batches:
                batch.add(slot, sample)


def content_digest(digest: bytes, boxes: NDArray[np.float32]) -> bytes:
    """The image's digest; with boxes, which then decide the pixels too, one over both."""
    return blake2b(digest + boxes.tobytes(), digest_size=16).digest() if len(boxes) else digest


def _forward(sharing: Sequence[Task], batch: _Batch, costs: Costs) -> Mapping[str, NDArray[np.float32]]:
    """Outputs of the one pass that several tasks share; zeros for whole batches of the forward without a pixel."""
    forward, slots = sharing[0].forward, _union(sharing)
    ready = (slots != EMPTY) & batch.ready
    values = {name: np.zeros((len(slots), *shape), np.float32) for name, shape in forward.shapes.items()}
    costs.forwards += int(ready.sum())
    for start in range(0, len(slots), forward.batch_size):
        part = slice(start, start + forward.batch_size)
        if ready[part].any():
            with costs.timed("forward"):
                for name, output in forward(batch.pixels[part]).items():
                    values[name][part] = output
    return values


def _embedded(task: Task, batch: _Batch, values: Mapping[str, NDArray[np.float32]]) -> Embedded:
    asked = task.slots != EMPTY
    state = np.where(asked, np.where(batch.ready, DONE, UNREADABLE), MISSING).astype(np.uint8)
    reasons = {slot: reason for slot, reason in batch.reasons.items() if asked[slot]}
    own = {pooling: values[output] for pooling, output in task.outputs.items()}
    return Embedded(own, state, batch.content, reasons)
