"""Preprocessed images of a dataset as tensors: decoded once and cached where they fit, read anew where they do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore.backbones.base import N_COLOURS
from featurestore.errors import FinetuneError, PreprocessingError, UnreadableImageError, UsageError
from featurestore.extraction.requests import ExtractionOptions
from featurestore.preprocessing import Preprocessing, parse_variant
from featurestore.samples import SampleTable

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset

_NO_BOXES = np.empty((0, 4), dtype=np.float32)


@dataclass(frozen=True)
class Images:
    """The readable images of some rows of a dataset, preprocessed.

    Attributes:
        dataset: Where they come from.
        variant: Name of the preprocessing.
        preprocessing: Its value.
        table: The samples of these images, in the same order.
        rows: int64 (n,), row of each in the dataset.
        cached: Index -> the image as `_pack` made it; what is not here is read when it is asked for.
        unreadable: Sample id -> reason, of rows left out.
    """

    dataset: ImageDataset
    variant: str
    preprocessing: Preprocessing
    table: SampleTable
    rows: NDArray[np.int64]
    cached: dict[int, NDArray[Any]] = field(repr=False)
    unreadable: dict[str, str]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """One image, float32 (3, side, side) in [0, 1]."""
        if index in self.cached:
            return _unpack(self.cached[index])
        return _read(self.dataset, self.preprocessing, int(self.rows[index]))

    def batch(self, indices: Sequence[int] | NDArray[np.int64], *, pinned: bool = False) -> Tensor:
        """Several images, (B, 3, side, side), float32 in [0, 1]; or 8-bit where all are, for `to_device`.

        Args:
            indices: Which.
            pinned: Whether they go to a GPU: in memory that it copies from by itself, and in as few bytes as they have.
        """
        if not pinned:
            return torch.from_numpy(np.stack([self[int(index)] for index in indices]))
        packed = [self._packed(int(index)) for index in indices]
        exact = all(image.dtype == np.uint8 for image in packed)
        images = [_three(image) if exact else _unpack(image) for image in packed]
        return torch.from_numpy(np.stack(images)).pin_memory()

    def _packed(self, index: int) -> NDArray[Any]:
        if index in self.cached:
            return self.cached[index]
        return _pack(_read(self.dataset, self.preprocessing, int(self.rows[index])))


def load_images(
    dataset: ImageDataset,
    variant: str,
    rows: NDArray[np.int64],
    memory: int,
    progress: Callable[[int, int], None] | None = None,
) -> Images:
    """Read every image once, which finds out those that cannot be read, and cache as many as fit.

    Args:
        dataset: The images.
        variant: Name or spec of the preprocessing.
        rows: int64, rows to read.
        memory: Bytes of images to cache.
        progress: Called with images done and images in all.

    Raises:
        FinetuneError: No image can be read.
        UnknownNameError: No such variant.
        UsageError: The variant makes other than three channels.
    """
    name, preprocessing = parse_variant(variant)
    check_channels(preprocessing)
    done = count(1)

    def attempt(row: int) -> NDArray[Any] | str:
        try:
            return _pack(_read(dataset, preprocessing, row))
        except (UnreadableImageError, PreprocessingError) as error:
            return error.what

    readable, cached, unreadable = list[int](), dict[int, NDArray[Any]](), dict[str, str]()
    with ThreadPoolExecutor(ExtractionOptions().worker_count, "reader") as pool:
        for row, image in zip(rows.tolist(), pool.map(attempt, rows.tolist()), strict=True):
            if progress:
                progress(next(done), len(rows))
            if isinstance(image, str):
                unreadable[dataset.table.sample_ids[row]] = image
                continue
            if image.nbytes <= memory:
                cached[len(readable)] = image
                memory -= image.nbytes
            readable.append(row)
    if not readable:
        reason = next(iter(unreadable.values()), "no rows")
        raise FinetuneError(f"no image can be read: {reason}", where=dataset.table.name, hint="Check the images.")
    chosen = np.array(readable, dtype=np.int64)
    return Images(dataset, name, preprocessing, dataset.table.take(chosen), chosen, cached, unreadable)


def check_channels(preprocessing: Preprocessing) -> None:
    """Refuse other than three channels: augmentation and saved models are made for colours.

    Raises:
        UsageError: The preprocessing makes another number of channels.
    """
    if preprocessing.n_channels != N_COLOURS:
        raise UsageError(
            f"training takes {N_COLOURS} channels, not {preprocessing.n_channels}",
            where=f"channels={preprocessing.channels}",
            hint="Choose three bands, or probe the features of all of them.",
        )


def _read(dataset: ImageDataset, preprocessing: Preprocessing, row: int) -> NDArray[np.float32]:
    boxes = dataset.table.boxes
    own = boxes.of(row) if preprocessing.uses_boxes and boxes is not None else _NO_BOXES
    return preprocessing.apply(dataset.read(row).image, own)


def _pack(image: NDArray[np.float32]) -> NDArray[Any]:
    """The same image in as few bytes as give it back exactly: one plane of three equal ones, 8 bits where they do."""
    plane = image[:1] if (image == image[:1]).all() else image
    levels = np.rint(plane * np.float32(255)).astype(np.uint8)
    return levels if (levels / np.float32(255) == plane).all() else plane.copy()


def _unpack(packed: NDArray[Any]) -> NDArray[np.float32]:
    return _three(packed / np.float32(255) if packed.dtype == np.uint8 else packed)


def _three(plane: NDArray[Any]) -> NDArray[Any]:
    return np.broadcast_to(plane, (3, *plane.shape[1:]))


def to_device(images: Tensor, device: torch.device) -> Tensor:
    """A batch on a device, float32 in [0, 1]; 8-bit images become that there."""
    moved = images.to(device, non_blocking=True)
    return moved.float() / 255 if moved.dtype == torch.uint8 else moved
