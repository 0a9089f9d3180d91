"""The device engine with the CPU as its device, which has one stream; on a simulated one see tests/device."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featurestore.backbones.engines.base import Runtime
from featurestore.backbones.engines.device import DeviceForward
from featurestore.errors import BackboneError
from featurestore.preprocessing import Preprocessing, Unresized
from featurestore.resizing import resize_on_device

RUNTIME = Runtime("torch", "cpu", "fp32")
SHAPE = (8, 3, 6, 6)
NO_BOXES = np.empty((0, 4), np.float32)


class Sums(nn.Module):
    """Sums of bands and of columns; out of memory above so many images."""

    def __init__(self, most: int = 99, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.most, self.error = most, error

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        if len(pixels) > self.most:
            raise self.error("too many")
        unit = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        return unit.sum((2, 3)), unit.sum((1, 2))


def build(module: nn.Module, *, eight_bit: bool = True) -> DeviceForward:
    return DeviceForward(module, ("bands", "columns"), SHAPE, RUNTIME, eight_bit=eight_bit)


def make_pixels(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.mark.parametrize("eight_bit", [True, False])
def test_features_of_several_callers_are_their_own(eight_bit: bool) -> None:
    forward = build(Sums(), eight_bit=eight_bit)
    assert forward.shapes == {"bands": (3,), "columns": (6,)}
    batches = [make_pixels(seed) for seed in range(20)]
    with ThreadPoolExecutor(5) as callers:
        found = list(callers.map(forward, batches))
    for pixels, features in zip(batches, found, strict=True):
        unit = pixels.astype(np.float64) / 255
        np.testing.assert_allclose(features["bands"], unit.sum((2, 3)), rtol=1e-5)
        np.testing.assert_allclose(features["columns"], unit.sum((1, 2)), rtol=1e-5)
    floats = forward(batches[0].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(floats["bands"], found[0]["bands"])


@pytest.mark.parametrize(("most", "size"), [(8, 8), (7, 4), (3, 2), (1, 1)])
def test_the_pass_is_the_largest_that_fits(most: int, size: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        forward = build(Sums(most))
    assert forward.pass_size == size
    assert forward.notes == ({} if size == 8 else {"pass_size": size})
    assert (f"holds {size} images a pass, not 8" in caplog.text) == (size < 8)
    np.testing.assert_array_equal(forward(make_pixels())["columns"], build(Sums())(make_pixels())["columns"])


def test_not_even_one_image_fits() -> None:
    with pytest.raises(BackboneError, match=r"the GPU ran out of memory \[device=cpu.*run the same command again"):
        build(Sums(0))


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [(torch.OutOfMemoryError, BackboneError, "ran out of memory"), (ValueError, ValueError, "too many")],
)
def test_a_pass_that_fails_costs_no_slot_and_no_stage(
    error: type[Exception], raised: type[Exception], message: str
) -> None:
    module = Sums(error=error)
    forward = build(module)
    expected = forward(make_pixels())["bands"]
    module.most = 0
    for _ in range(5):
        with pytest.raises(raised, match=message):
            forward(make_pixels())
    module.most = 99
    np.testing.assert_array_equal(forward(make_pixels())["bands"], expected)


def expected_pixels(images: list[Any], how: Preprocessing) -> NDArray[Any]:
    """What `render` makes of images with the same resizer, in float32, and zeros where there is none."""
    found: list[Any] = [None if one is None else _render(one, how) for one in images]
    first = next(one for one in found if one is not None)
    return np.stack([np.zeros_like(first) if one is None else one for one in found])


def _render(image: NDArray[Any], how: Preprocessing) -> NDArray[Any]:
    def resize(bands: Any, side: int, interpolation: str, antialias: bool, _resizer: str) -> Any:
        return resize_on_device(bands, side, interpolation, antialias, "cpu")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.preprocessing.resize", resize)
        return how.render(image, NO_BOXES)


@pytest.mark.parametrize(
    "spec",
    [
        "resizer=cuda",
        "resizer=cuda,interpolation=nearest,orientation=3",
        "resizer=xpu,antialias=false,orientation=6,crop=center:0.5",
        "resizer=cuda,channels=mean",
        "resizer=cuda,channels=1+2-0-0+1",
        "resizer=cuda,channels=2",
        "resizer=cuda,stretch=asinh:0.1",
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_images_that_are_resized_in_the_pass(spec: str, dtype: str) -> None:
    """As `Preprocessing.render` does it, image by image; shapes are mixed, and slots are empty."""
    how, rng = Preprocessing.parse(f"resize=6,{spec}"), np.random.default_rng(0)
    shapes = [(20, 15, 3), None, (9, 9, 3), (20, 15, 3), (5, 30, 3), None, (9, 9, 3), (20, 15, 3)]
    images = [None if one is None else rng.integers(0, 256, one).astype(dtype) for one in shapes]
    cut = [None if one is None else how.cut(one, NO_BOXES) for one in images]
    found = build(Sums())(Unresized(cut, how))
    expected = build(Sums())(expected_pixels(images, how))
    np.testing.assert_allclose(found["bands"], expected["bands"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["columns"], expected["columns"], rtol=1e-6, atol=1e-6)


def test_8_bit_images_beside_others_are_over_255() -> None:
    how = Preprocessing(resize=6, resizer="cuda")
    image = make_pixels()[0].transpose(1, 2, 0)
    single = build(Sums())(Unresized([image, *[None] * 7], how))
    both = build(Sums())(Unresized([image, image.astype(np.float32) / 255, *[None] * 6], how))
    np.testing.assert_allclose(both["bands"][0], single["bands"][0], rtol=1e-6)
    np.testing.assert_allclose(both["bands"][1], single["bands"][0], rtol=1e-6)


class _Graph:
    """Records whatever runs inside, as an accelerator's graph does; a replay runs it again."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change = change

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("exact", [True, False])
def test_a_graph_is_used_where_its_bits_are_those_of_the_network(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    replays = []

    class Graph(_Graph):
        def __init__(self) -> None:
            pass

        def replay(self) -> None:
            replays.append(True)
            for found, again in zip(recorded.outputs, Sums()(recorded.pixels), strict=True):
                found.copy_(again if exact else again + 1e-3)

    class Recorded(Sums):
        """Remembers the pixels and outputs that the graph would own."""

        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            self.calls = getattr(self, "calls", 0) + 1
            made = super().forward(pixels)
            if self.calls == 2:  # the first tries the pass, the second is recorded
                self.pixels, self.outputs = pixels, made
            return made

    recorded = Recorded()
    monkeypatch.setattr(torch.accelerator, "Graph", Graph)
    forward = build(recorded)
    replays.clear()
    found = forward(make_pixels())["bands"]
    assert bool(replays) is exact
    np.testing.assert_array_equal(found, build(Sums())(make_pixels())["bands"])
