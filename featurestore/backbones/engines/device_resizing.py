"""Resizing inside a pass: images go to the GPU as they were decoded, those of one shape together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore.preprocessing import ORIENTATIONS, Preprocessing, Unresized
from featurestore.resizing import resize_tensors


@dataclass(frozen=True)
class Group:
    """Images of one shape and type.

    Attributes:
        slots: int64 (n,), their slots in the batch.
        images: (n, h, w, C).
    """

    slots: Tensor
    images: Tensor

    def to(self, device: str) -> Group:
        """A copy on a device, which may not have arrived yet."""
        return Group(self.slots.to(device, non_blocking=True), self.images.to(device, non_blocking=True))


@dataclass(frozen=True)
class Staged:
    """Images of a batch, on their way to the GPU.

    Attributes:
        groups: By shape.
        preprocessing: What is to be done with them.
        dtype: Of the pixels that come out.
    """

    groups: Sequence[Group]
    preprocessing: Preprocessing
    dtype: torch.dtype


def stage_images(batch: Unresized, *, pinned: bool) -> Staged:
    """Lay images of one shape together, in memory that a GPU copies from by itself."""
    groups: dict[tuple[tuple[int, ...], str], dict[int, NDArray[Any]]] = {}
    for slot, image in enumerate(batch.images):
        if image is not None:
            groups.setdefault((image.shape, image.dtype.str), {})[slot] = image
    staged = [_lay(images, pinned=pinned) for images in groups.values()]
    how = batch.preprocessing
    exact = how.keeps_bytes and all(group.images.dtype == torch.uint8 for group in staged)
    return Staged(staged, how, torch.uint8 if exact else torch.float32)


def _lay(images: Mapping[int, NDArray[Any]], *, pinned: bool) -> Group:
    """Images of one shape and type by slot."""
    first = next(iter(images.values()))
    dtype = torch.from_numpy(np.zeros(0, first.dtype)).dtype
    room = torch.empty((len(images), *first.shape), dtype=dtype, pin_memory=pinned)
    np.stack(list(images.values()), out=room.numpy())
    places = torch.tensor(list(images))
    return Group(places.pin_memory() if pinned else places, room)


def resize_into(pixels: Tensor, how: Preprocessing, groups: Sequence[Group]) -> None:
    """Resize each group into its slots.

    Args:
        pixels: (B, C, S, S) of the type of `Staged.dtype`, on the device; slots without an image become zero.
        how: What is to be done with the images.
        groups: On the device.
    """
    pixels.zero_()
    for group in groups:
        finished = finish(group.images, how)
        unit = finished if finished.dtype == pixels.dtype else finished.float() / 255
        pixels.index_copy_(0, group.slots, unit)


def finish(images: Tensor, how: Preprocessing) -> Tensor:
    """What `Preprocessing.render` does after the crop, for images (n, h, w, C) of one shape: (n, n_channels, S, S)."""
    resized = resize_tensors(images, how.resize, how.interpolation, how.antialias)
    if not (how.keeps_bytes and resized.dtype == torch.uint8):
        resized = resized.float() / 255 if resized.dtype == torch.uint8 else resized.clamp(0, 1)
    return _orient(_combine(resized, how), how.orientation)


def _combine(bands: Tensor, how: Preprocessing) -> Tensor:
    sizes = how.channel_sizes
    if how.channels == "mean":
        bands = bands.mean(dim=1, keepdim=True)
    elif sizes and len(sizes) < bands.shape[1]:
        bands = torch.stack([part.mean(dim=1) for part in torch.split(bands, sizes, dim=1)], dim=1)
    return bands.expand(-1, how.n_channels, -1, -1) if bands.shape[1] == 1 else bands


def _orient(images: Tensor, orientation: int) -> Tensor:
    mirrored = images.flip(-1) if orientation >= ORIENTATIONS // 2 else images
    return torch.rot90(mirrored, orientation % (ORIENTATIONS // 2), (-2, -1))
