"""Augmentations for images of the sky, on batches: any orientation is as likely, and fluxes stay physical.

What happens to each image is drawn for it alone, from torch's global generators: on the CPU, and noise, of which there
is much, on the device of the images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms import v2

from finetune.options import Augmentation

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal law over its median absolute deviation."""


def augment(images: Tensor, how: Augmentation) -> Tensor:
    """An augmented copy of float (B, 3, H, W) images in [0, 1], in the same range, on the same device.

    Flips, turns, shifts and zooms are one matrix and one interpolation; beyond its edge, an image is mirrored.
    (torchvision's transforms draw once for a whole batch, and interpolate once for each of these.)
    """
    if how.flips or how.rotation or how.shift or how.zoom:
        images = move(images, draw_matrices(len(images), how))
    if how.noise:
        images = add_noise(images, how.noise)
    if how.erase:
        images = erase(images, how.erase)
    if how.jitter:
        change = v2.ColorJitter(how.jitter, how.jitter, how.jitter)
        images = torch.stack([change(image) for image in images])
    return images.clamp(0, 1)


def draw_matrices(n: int, how: Augmentation) -> Tensor:
    """Random matrices (n, 2, 3) from output to input coordinates, both in [-1, 1]."""
    angle = _uniform(n) * math.radians(how.rotation)
    scale = 1 / (1 + _uniform(n) * how.zoom)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    turn = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    signs = torch.randint(0, 2, (n, 1, 2)) * 2 - 1 if how.flips else torch.ones(n, 1, 2)
    shift = torch.stack([_uniform(n), _uniform(n)], -1) * 2 * how.shift
    return torch.cat([turn * signs, shift[:, :, None]], -1)


def move(images: Tensor, matrices: Tensor) -> Tensor:
    """Images (B, C, H, W) seen through matrices (B, 2, 3) from output to input coordinates; bilinear."""
    grid = affine_grid(matrices.to(images), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def noise_level(images: Tensor) -> Tensor:
    """Standard deviation of the noise of each band, (B, C, 1, 1): robust, by the median absolute deviation.

    Sources cover few pixels and hardly move a median. A band most of whose pixels have one value has level 0.
    Source: Rousseeuw & Croux 1993, JASA 88, 1273.
    """
    pixels = images.flatten(2)
    deviation = (pixels - pixels.median(dim=2, keepdim=True).values).abs()
    return MAD_TO_SIGMA * deviation.median(dim=2, keepdim=True).values[..., None]


def add_noise(images: Tensor, most: float) -> Tensor:
    """Images (B, C, H, W) with normal noise of up to `most` times their own; three equal bands stay equal."""
    noise = torch.randn(images.shape, device=images.device).to(images)
    grey = (images == images[:, :1]).all(dim=(1, 2, 3), keepdim=True)
    noise = torch.where(grey, noise[:, :1], noise)
    amount = torch.rand(len(images), 1, 1, 1).to(images) * most
    return images + amount * noise_level(images) * noise


def erase(images: Tensor, most: float) -> Tensor:
    """Images (B, C, H, W), each with a square of up to a share `most` of it set to the median of each band.

    Source: DeVries & Taylor 2017, arXiv:1708.04552 (Cutout), at a random size.
    """
    n, _, height, width = images.shape
    half = (torch.rand(n, 1, 1) * most).sqrt() / 2
    y, x = torch.arange(height).view(1, -1, 1) / height, torch.arange(width).view(1, 1, -1) / width
    inside = ((y - torch.rand(n, 1, 1)).abs() < half) & ((x - torch.rand(n, 1, 1)).abs() < half)
    level = images.flatten(2).median(dim=2).values[..., None, None]
    return torch.where(inside[:, None].to(images.device), level, images)


def _uniform(n: int) -> Tensor:
    """Numbers in [-1, 1), (n,)."""
    return torch.rand(n) * 2 - 1
