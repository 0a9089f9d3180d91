"""Resizing of one image: by torch on the CPU or on a GPU, or by Pillow. Each is another experiment: keys name it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import PreprocessingError

INTERPOLATIONS = ("bicubic", "bilinear", "nearest")
RESIZERS = ("torch", "pillow", "cuda")


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
        PreprocessingError: ``cuda`` without a GPU.
    """
    if resizer == "pillow":
        return _resize_with_pillow(bands, side, interpolation)
    if resizer == "cuda":
        _require_gpu()
        return resize_on_device(bands, side, interpolation, antialias, "cuda")
    return _resize_with_torch(bands, side, interpolation, antialias)


def resize_on_device(bands: NDArray[Any], side: int, interpolation: str, antialias: bool, device: str) -> NDArray[Any]:
    """`resize` by torch in float32, as GPUs do not resize 8-bit images; 8-bit values are rounded to the nearest.

    What goes to a GPU is pinned, and goes as it was decoded. Tested on the CPU; it has not been run on a GPU.

    Args:
        bands: See `resize`, and so the others.
        side: Side of the result.
        interpolation: One of `INTERPOLATIONS`.
        antialias: Whether shrinking averages.
        device: ``cuda``, or ``cpu``.
    """
    import torch

    source = torch.from_numpy(np.require(bands, requirements=("C", "W")))
    if device == "cuda":
        source = source.pin_memory().to(device, non_blocking=True)
    resized = _interpolate(source.permute(2, 0, 1).float().unsqueeze(0), side, interpolation, antialias)[0]
    if source.dtype == torch.uint8:
        resized = resized.round().clamp(0, 255).to(torch.uint8)
    found: NDArray[Any] = resized.cpu().numpy()
    return found


def _require_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        raise PreprocessingError(
            "there is no GPU to resize on",
            where="resizer=cuda",
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
