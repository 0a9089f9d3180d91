"""Steps that compare numbers: what the device computes is what the CPU computes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu_check.outcome import Figure
from benchmarks.gpu_check.setting import Setting, Skipped
from featurestore.backbones.engines.base import Runtime
from featurestore.backbones.engines.device import DeviceForward
from featurestore.backbones.engines.torch import TorchForward
from featurestore.resizing import resize_on_device

RELATIVE, COSINE = 1e-4, 0.99
GREY_LEVELS, MEAN_LEVELS = 1, 0.05


def check_fidelity(setting: Setting) -> Iterator[Figure]:
    """fp32 against the CPU; bf16 against fp32; twice the same bits; 8-bit pixels and their floats the same bits."""
    batches = [setting.pixels(seed) for seed in range(max(1, setting.scale.checked // setting.scale.batch))]
    for name in setting.scale.networks:
        on_cpu = _features(setting, name, Runtime("torch", "cpu", "fp32"), batches)
        forward, pooling = _build(setting, name, Runtime("torch", setting.device, "fp32"))
        exact = np.concatenate([forward(one)[pooling] for one in batches])
        again = np.concatenate([forward(one)[pooling] for one in batches])
        floats = forward(batches[0].astype(np.float32) / np.float32(255))[pooling]
        yield Figure(f"{name} fp32, relative to the CPU", _relative(exact, on_cpu), RELATIVE, at_most=True)
        yield Figure(f"{name} fp32, the same bits again", bool((exact == again).all()), limit=True)
        first = exact[: setting.scale.batch]
        yield Figure(f"{name} fp32, 8-bit pixels and floats", _relative(floats, first), RELATIVE, at_most=True)
        yield Figure(f"{name} replayed as a graph (else eager, as bits differ)", forward.replays)
        if setting.runtime.precision != "fp32":
            reduced, _ = _build(setting, name, setting.runtime)
            near = np.concatenate([reduced(one)[pooling] for one in batches])
            yield Figure(f"{name} {setting.runtime.precision}, least cosine", _least_cosine(near, exact), COSINE)


def check_resizing(setting: Setting) -> Iterator[Figure]:
    """Grey levels between the device and the CPU."""
    if setting.device == "mps":
        raise Skipped("images are not resized on mps")
    image = np.random.default_rng(0).integers(0, 256, (setting.scale.picture,) * 2 + (3,), dtype=np.uint8)
    for interpolation in ("bicubic", "bilinear"):
        devices = (setting.device, "cpu")
        here, there = (resize_on_device(image, setting.scale.side, interpolation, True, one) for one in devices)
        levels = np.abs(here.astype(int) - there.astype(int))
        yield Figure(f"{interpolation}, most grey levels", float(levels.max()), GREY_LEVELS, at_most=True)
        yield Figure(f"{interpolation}, mean grey levels", float(levels.mean()), MEAN_LEVELS, at_most=True)


def check_memory(setting: Setting) -> Iterator[Figure]:
    """With a twentieth of the memory, the pass is halved, recorded, and gives the same features."""
    limit = getattr(torch.get_device_module(setting.device), "set_per_process_memory_fraction", None)
    if limit is None:
        raise Skipped(f"the memory of {setting.device} cannot be limited")
    name = setting.scale.timed[0]
    forward, pooling = _build(setting, name, setting.runtime)
    expected = forward(setting.pixels())[pooling]
    del forward
    torch.accelerator.empty_cache()
    limit(0.05)
    try:
        small, _ = _build(setting, name, setting.runtime)
        found = small(setting.pixels())[pooling]
    finally:
        limit(1.0)
    yield Figure("images a pass, recorded", float(small.notes.get("pass_size", setting.scale.batch)))
    yield Figure("least cosine to the whole pass", _least_cosine(found, expected), COSINE)


def _build(setting: Setting, name: str, runtime: Runtime) -> tuple[DeviceForward, str]:
    graph, poolings = setting.graph(name)
    shape = (setting.scale.batch, 3, setting.scale.side, setting.scale.side)
    return DeviceForward(graph, poolings, shape, runtime, eight_bit=True), poolings[0]


def _features(setting: Setting, name: str, runtime: Runtime, batches: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    graph, poolings = setting.graph(name)
    forward = TorchForward(graph, poolings, batches[0].shape, runtime, eight_bit=True)
    return np.concatenate([forward(one)[poolings[0]] for one in batches])


def _relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _least_cosine(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(axis=1) / norms).min())
