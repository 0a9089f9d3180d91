"""From dataset rows to embeddings, in memory: one batch, decoded once for all variants and backbones."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import PreprocessingError, UnreadableImageError
from featurestore.preprocessing import Preprocessing, Unresized, to_unit
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


@dataclass(frozen=True)
class Rendered:
    """What one variant makes of one image.

    Attributes:
        content: 16 bytes, digest of what decides the pixels.
        pixels: (C, S, S); or what is left to resize, (h, w, C); None where there are none.
        reason: Why there are none.
    """

    content: bytes
    pixels: NDArray[Any] | None
    reason: str = ""


class Batch:
    """What one variant makes of the images of a batch.

    Args:
        preprocessing: The variant.
        slots: int64 (B,), dataset row in each slot; `EMPTY` where no task wants one.

    Attributes:
        slots: See above.
        content: uint8 (B, 16), digest of what decides the pixels.
        ready: bool (B,), slots with pixels.
        reasons: Slot -> why it has none.
    """

    def __init__(self, preprocessing: Preprocessing, slots: NDArray[np.int64]) -> None:
        self.preprocessing, self.slots = preprocessing, slots
        self._pixels: NDArray[Any] | None = None
        self._unresized: list[NDArray[Any] | None] = [None] * len(slots)
        self.content = np.zeros((len(slots), 16), dtype=np.uint8)
        self.ready = np.zeros(len(slots), dtype=bool)
        self.reasons: dict[int, str] = {}

    @property
    def pixels(self) -> NDArray[Any] | Unresized:
        """(B, C, S, S), zero where not ready: uint8, or float32 as soon as one image is; or images to resize."""
        if self.preprocessing.resizes_on_device:
            return Unresized(self._unresized, self.preprocessing)
        return np.zeros(0, np.uint8) if self._pixels is None else self._pixels

    def lend(self, pixels: NDArray[Any]) -> None:
        """Use this memory, (B, C, S, S), in which some pixels stand already."""
        self._pixels = pixels

    def add(self, slot: int, rendered: Rendered, *, placed: bool = False) -> None:
        """Put an image into its slot, unless its pixels are `placed` there already."""
        self.content[slot] = np.frombuffer(rendered.content, dtype=np.uint8)
        if rendered.reason:
            self.reasons[slot] = rendered.reason
            return
        self.ready[slot] = True
        if rendered.pixels is not None and not placed:
            self._put(slot, rendered.pixels)

    def _put(self, slot: int, image: NDArray[Any]) -> None:
        if self.preprocessing.resizes_on_device:
            self._unresized[slot] = image
            return
        if self._pixels is None:
            self._pixels = np.zeros((len(self.slots), *image.shape), image.dtype)
        if image.dtype != self._pixels.dtype:
            self._pixels, image = to_unit(self._pixels), to_unit(image)
        self._pixels[slot] = image


Fill = Callable[["ImageDataset", Sequence[Batch], Costs], None]
"""Decode what the slots of several variants want, each image once, and fill them."""


def pad_slots(rows: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """int64 (size,): at most `size` rows in the first slots, `EMPTY` in the others; a forward's shape is fixed."""
    slots = np.full(size, EMPTY, dtype=np.int64)
    slots[: len(rows)] = rows
    return slots


def fill_here(dataset: ImageDataset, batches: Sequence[Batch], costs: Costs) -> None:
    """Image after image through decoding and every variant: it is used while it is in the processor's cache.

    Unreadable images are marked with their reason and do not stop the others.
    """
    for slot, row in enumerate(wanted(batches).tolist()):
        if row == EMPTY:
            continue
        asking = [batch for batch in batches if batch.slots[slot] != EMPTY]
        variants = [batch.preprocessing for batch in asking]
        for batch, rendered in zip(asking, render_row(dataset, row, variants, costs), strict=True):
            batch.add(slot, rendered)


def embed_batch(dataset: ImageDataset, tasks: Sequence[Task], fill: Fill = fill_here) -> tuple[list[Embedded], Costs]:
    """Embed one batch by all `tasks`; each row is decoded once, each variant preprocessed once, layers share a pass."""
    costs = Costs()
    batches = {
        preprocessing: Batch(preprocessing, _union(sharing))
        for preprocessing, sharing in _grouped(tasks, lambda task: task.preprocessing).items()
    }
    fill(dataset, list(batches.values()), costs)
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


def wanted(batches: Sequence[Batch]) -> NDArray[np.int64]:
    """int64 (B,): the row in each slot that any of the variants wants."""
    rows: NDArray[np.int64] = np.max([batch.slots for batch in batches], axis=0)
    return rows


def render_row(dataset: ImageDataset, row: int, variants: Sequence[Preprocessing], costs: Costs) -> list[Rendered]:
    """What each variant makes of the image of a row, which is decoded once."""
    costs.images += 1
    try:
        with costs.timed("decode"):
            sample = dataset.read(row)
    except UnreadableImageError as error:
        return [Rendered(bytes(16), None, error.what)] * len(variants)
    with costs.timed("preprocess"):
        return [_render(sample, one, _boxes(dataset.table, row, one)) for one in variants]


def _boxes(table: SampleTable, row: int, preprocessing: Preprocessing) -> NDArray[np.float32]:
    return table.boxes.of(row) if table.boxes and preprocessing.uses_boxes else _NO_BOXES


def _render(sample: Sample, preprocessing: Preprocessing, boxes: NDArray[np.float32]) -> Rendered:
    content = content_digest(sample.digest, boxes)
    make = preprocessing.cut if preprocessing.resizes_on_device else preprocessing.render
    try:
        return Rendered(content, make(sample.image, boxes))
    except PreprocessingError as error:
        return Rendered(content, None, error.what)


def content_digest(digest: bytes, boxes: NDArray[np.float32]) -> bytes:
    """The image's digest; with boxes, which then decide the pixels too, one over both."""
    return blake2b(digest + boxes.tobytes(), digest_size=16).digest() if len(boxes) else digest


def _forward(sharing: Sequence[Task], batch: Batch, costs: Costs) -> Mapping[str, NDArray[np.float32]]:
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


def _embedded(task: Task, batch: Batch, values: Mapping[str, NDArray[np.float32]]) -> Embedded:
    asked = task.slots != EMPTY
    state = np.where(asked, np.where(batch.ready, DONE, UNREADABLE), MISSING).astype(np.uint8)
    reasons = {slot: reason for slot, reason in batch.reasons.items() if asked[slot]}
    own = {pooling: values[output] for pooling, output in task.outputs.items()}
    return Embedded(own, state, batch.content, reasons)
