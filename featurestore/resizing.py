"""Resizing: by torch on the CPU or on a GPU, or by Pillow. Each is another experiment: keys name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import PreprocessingError

if TYPE_CHECKING:
    from torch import Tensor

INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
ON_DEVICE = ("cuda", "xpu")
"""Resizers that are device classes: torch there."""

RESIZERS = ("torch", "pillow", *ON_DEVICE)


def resize(bands: NDArray[Any], side: int, interpolation: str, antialias: bool, resizer: str) -> NDArray[Any]:
    """Resize an image to a square, whatever its aspect ratio.

    Args:
        bands: (H, W, C), uint8 or float32.
        side: Side of the result in pixels.
        interpolation: One of `INTERPOLATIONS`.
        antialias: Whether shrinking averages over source pixels; Pillow always does, ``nearest`` never.
        resizer: One of `RESIZERS`.

    Returns:
        (C, side, side), of the type of `bands`; bicubic floats can leave the range of the values.

    Raises:
        PreprocessingError: A device that is not there.
    """
    if resizer == "pillow":
        return _resize_with_pillow(bands, side, interpolation)
    if resizer in ON_DEVICE:
        _require_gpu(resizer)
        return resize_on_device(bands, side, interpolation, antialias, resizer)
    return _resize_with_torch(bands, side, interpolation, antialias)


def resize_on_device(bands: NDArray[Any], side: int, interpolation: str, antialias: bool, device: str) -> NDArray[Any]:
    """`resize` of one image by `resize_tensors` on a device, for whoever has no pass to put it into."""
    import torch

    source = torch.from_numpy(np.require(bands, requirements=("C", "W"))).unsqueeze(0).to(device)
    found: NDArray[Any] = resize_tensors(source, side, interpolation, antialias)[0].cpu().numpy()
    return found


def resize_tensors(images: Tensor, side: int, interpolation: str, antialias: bool) -> Tensor:
    """`resize` in float32, as GPUs do not resize 8-bit images; 8-bit values are rounded to the nearest.

    Tested on the CPU; it has not been run on a GPU.

    Args:
        images: (n, H, W, C) of one shape, on any device.
        side: See `resize`, and so the others.
        interpolation: One of `INTERPOLATIONS`.
        antialias: Whether shrinking averages.

    Returns:
        (n, C, side, side), of the type of `images`.
    """
    import torch

    resized: Tensor = _interpolate(images.permute(0, 3, 1, 2).float(), side, interpolation, antialias)
    return resized.round().clamp(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else resized


def _require_gpu(device: str) -> None:
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None or found.type != device:
        raise PreprocessingError(
            "there is no GPU to resize on",
            where=f"resizer={device}",
            hint="Use resizer=torch, whose features differ a little.",
        )


def _resize_with_torch(bands: NDArray[Any], side: int, interpolation: str, antialias: bool) -> NDArray[Any]:
    """By torch on the CPU; uint8 is resized as uint8, which is fast."""
    import torch

    # A channels-last view of one image, which is what the fast 8-bit kernels want.
    tensor = torch.from_numpy(np.require(bands, requirements=("C", "W"))).permute(2, 0, 1).unsqueeze(0)
    resized: NDArray[Any] = _interpolate(tensor, side, interpolation, antialias)[0].numpy()
    return resized


def _interpolate(images: Any, side: int, interpolation: str, antialias: bool) -> Any:
    """Tensors (B, C, H, W) to (B, C, side, side)."""
    from torch.nn.functional import interpolate

    options = {} if interpolation == "nearest" else {"antialias": antialias}
    mode = "nearest-exact" if interpolation == "nearest" else interpolation
    return interpolate(images, (side, side), mode=mode, **options)


def _resize_with_pillow(bands: NDArray[Any], side: int, interpolation: str) -> NDArray[Any]:
    from PIL import Image

    method = Image.Resampling[interpolation.upper()]
    planes = [np.asarray(Image.fromarray(band).resize((side, side), method)) for band in np.moveaxis(bands, 2, 0)]
    return np.stack(planes)
