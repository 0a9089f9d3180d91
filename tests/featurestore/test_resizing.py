"""Resizers against Pillow and torchvision, against each other, and the one for GPUs on a CPU."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from featurestore.errors import PreprocessingError
from featurestore.resizing import INTERPOLATIONS, resize, resize_on_device

Photo = Callable[[int], NDArray[np.uint8]]


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(params=["noise", "photo"])
def image(request: pytest.FixtureRequest, photo: Photo) -> NDArray[np.uint8]:
    return noise(70, 70, 3) if request.param == "noise" else photo(300)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_pillow_is_pillow(interpolation: str, image: NDArray[np.uint8]) -> None:
    whole = Image.fromarray(image).resize((24, 24), Image.Resampling[interpolation.upper()])
    found = resize(image, 24, interpolation, antialias=True, resizer="pillow")
    np.testing.assert_array_equal(found, np.moveaxis(np.asarray(whole), 2, 0))


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("side", [24, 90])
def test_torch_is_torchvision(interpolation: str, antialias: bool, side: int) -> None:
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    image = noise(50, 33, 3)
    mode = InterpolationMode("nearest-exact" if interpolation == "nearest" else interpolation)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    expected = functional.resize(tensor, [side, side], interpolation=mode, antialias=antialias).numpy()
    np.testing.assert_array_equal(resize(image, side, interpolation, antialias, "torch"), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_torch_and_pillow_agree_within_two_grey_levels(interpolation: str, image: NDArray[np.uint8]) -> None:
    by_torch, by_pillow = (resize(image, 48, interpolation, True, name).astype(int) for name in ("torch", "pillow"))
    assert np.abs(by_torch - by_pillow).max() <= 2


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_8_bit_images_on_a_device_are_those_of_the_cpu_within_a_grey_level(
    interpolation: str, image: NDArray[np.uint8]
) -> None:
    # Not bicubic: at sharp edges the CPU cuts the overshoot of 8-bit images after each of its two passes.
    by_torch = resize(image, 48, interpolation, True, "torch").astype(int)
    assert np.abs(by_torch - resize_on_device(image, 48, interpolation, True, "cpu")).max() <= 1


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_floats_on_a_device_are_what_torch_makes_of_them_anywhere(interpolation: str, antialias: bool) -> None:
    image = noise(50, 33, 3).astype(np.float32) / 7
    found = resize_on_device(image, 40, interpolation, antialias, "cpu")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, resize(image, 40, interpolation, antialias, "torch"))


def test_8_bit_images_on_a_device_are_floats_rounded_and_cut_to_the_range(photo: Photo) -> None:
    image = photo(60)  # bicubic overshoots at its edges
    floats = resize_on_device(image.astype(np.float32), 90, "bicubic", True, "cpu")
    assert floats.min() < 0
    assert floats.max() > 255
    found = resize_on_device(image, 90, "bicubic", True, "cpu")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, floats.round().clip(0, 255))


def test_a_gpu_that_is_not_there() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    message = "there is no GPU to resize on [resizer=cuda]. Use resizer=torch, whose features differ a little."
    with pytest.raises(PreprocessingError, match=re.escape(message)):
        resize(noise(9, 9, 3), 4, "bicubic", antialias=True, resizer="cuda")


def test_a_gpu_resizes_as_the_cpu_does_with_floats(photo: Photo) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    image = photo(300)
    on_gpu, on_cpu = (resize_on_device(image, 224, "bicubic", True, device).astype(int) for device in ("cuda", "cpu"))
    assert np.abs(on_gpu - on_cpu).max() <= 1
