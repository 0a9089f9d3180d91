"""The device engine and whole extractions on the simulated accelerator, against the CPU."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from featurestore.backbones.engines.base import Runtime, compile_forward, resolve_runtime
from featurestore.backbones.loading import load_backbone
from featurestore.datasets import open_dataset
from featurestore.errors import BackboneError
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.preprocessing import Preprocessing, Unresized
from featurestore.resizing import resize_on_device
from featurestore.store import open_store

CPU, SIM = Runtime("torch", "cpu", "fp32"), Runtime("torch", "sim", "fp32")
NETWORKS = [("timm:resnet18", "avgpool"), ("timm:vit_tiny_patch16_224", "cls")]
SIDE = 64


def build(name: str, pooling: str, runtime: Runtime, batch_size: int = 4) -> Any:
    backbone = load_backbone(name, "random:0", SIDE)
    return compile_forward(backbone, (pooling,), runtime, batch_size, SIDE, 1, eight_bit=True)


def batches(n: int, batch_size: int = 4) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, batch_size, 3, SIDE, SIDE), dtype=np.uint8))


@pytest.mark.parametrize(("name", "pooling"), NETWORKS)
def test_features_are_those_of_the_cpu(sim: Any, name: str, pooling: str) -> None:
    expected = [build(name, pooling, CPU)(pixels)[pooling] for pixels in batches(8)]
    forward = build(name, pooling, SIM)
    with ThreadPoolExecutor(4) as callers:
        found = list(callers.map(lambda pixels: forward(pixels)[pooling], batches(8)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    as_floats = forward(batches(8)[0].astype(np.float32) / np.float32(255))[pooling]
    np.testing.assert_array_equal(as_floats, found[0])


def test_the_pass_is_halved_until_it_fits(sim: Any, caplog: pytest.LogCaptureFixture) -> None:
    name, pooling = NETWORKS[0]
    pixels = batches(1, 64)[0]
    whole = build(name, pooling, SIM, 64)
    expected = whole(pixels)[pooling]
    before = sim.used()
    weights = sum(p.nbytes for p in deepcopy(load_backbone(name, "random:0", SIDE).tokens).state_dict().values())
    sim.set_limit(before + weights + 15_000_000)
    with caplog.at_level(logging.WARNING):
        forward = build(name, pooling, SIM, 64)
    assert 1 <= forward.pass_size < 64
    assert forward.notes["pass_size"] == forward.pass_size
    assert f"holds {forward.pass_size} images a pass, not 64" in caplog.text
    assert "pass_size" not in whole.notes
    np.testing.assert_allclose(forward(pixels)[pooling], expected, rtol=1e-4, atol=1e-4)


def test_a_network_that_does_not_fit(sim: Any) -> None:
    sim.set_limit(sim.used() + 2**16)
    with pytest.raises(BackboneError, match=r"the GPU ran out of memory \[device=sim.*--device cpu"):
        build(*NETWORKS[0], SIM)


def test_memory_that_somebody_else_takes_later(sim: Any) -> None:
    forward = build(*NETWORKS[0], SIM)
    expected = forward(batches(1)[0])["avgpool"]
    sim.set_limit(sim.used() + 2**12)
    for _ in range(4):  # more than there are slots and stages: none is lost
        with pytest.raises(BackboneError, match="the GPU ran out of memory"):
            forward(batches(1)[0])
    sim.set_limit(2**62)
    np.testing.assert_array_equal(forward(batches(1)[0])["avgpool"], expected)


@pytest.mark.parametrize("spec", ["resize=64,resizer=cuda", "resize=64,resizer=cuda,orientation=5,channels=0-2-1"])
def test_images_of_several_shapes_are_resized_in_the_pass(sim: Any, spec: str) -> None:
    how, rng = Preprocessing.parse(spec), np.random.default_rng(1)
    shapes = [(90, 70, 3), (80, 80, 3), (90, 70, 3)]
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    cut = [how.cut(image, np.empty((0, 4), np.float32)) for image in images]
    by_hand = [resize_on_device(one, 64, "bicubic", True, "cpu") for one in cut]
    turned = [np.rot90(one[..., ::-1], 5, (-2, -1)) if how.orientation else one for one in by_hand]
    pixels = np.stack([*turned, np.zeros_like(turned[0])])
    forward = build(*NETWORKS[1], SIM)
    found = forward(Unresized([*cut, None], how))["cls"]
    np.testing.assert_array_equal(found, forward(pixels)["cls"])


@pytest.fixture
def folder(tmp_path: Path) -> str:
    rng, place = np.random.default_rng(2), tmp_path / "images"
    for number in range(40):
        path = place / "ab"[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(path)
    (place / "a" / "999.png").write_bytes(b"no image")
    return str(place)


def test_an_extraction_by_decoding_processes_is_repeatable_and_near_that_of_the_cpu(
    sim: Any, folder: str, tmp_path: Path
) -> None:
    def extract(name: str, device: str) -> Any:
        options = ExtractionOptions(
            weights="random:0",
            engine="torch",
            device=device,
            precision="fp32",
            dtype="float32",
            batch_size=8,
            workers=2,
        )
        store = open_store(str(tmp_path / name), mode="a", block_rows=16)
        report = extract_features(open_dataset(folder), ["timm:resnet18"], ["resize=64"], store, options)
        return report.features[0]

    assert resolve_runtime(device="sim", precision="fp32") == SIM
    first, second, cpu = extract("first", "sim"), extract("second", "sim"), extract("cpu", "cpu")
    values = [one.entry.read("avgpool", allow_partial=True).values for one in (first, second, cpu)]
    assert values[0].tobytes() == values[1].tobytes()
    np.testing.assert_allclose(values[0], values[2], rtol=1e-4, atol=1e-4)
    assert len(values[0]) == 40
    assert list(first.unreadable) == list(cpu.unreadable) != []
    assert first.entry.provenance["gpu"] == "simulated"
    assert torch.accelerator.is_available()
