"""What the steps share: the device, how much is done, pictures, networks."""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.images import write_images
from featurestore.backbones.engines.base import Runtime, resolve_runtime
from featurestore.backbones.engines.graph import build_graph
from featurestore.backbones.loading import load_backbone

PREPARE = "SKYPROBE_GPU_CHECK_PREPARE"
"""Environment variable: a Python file to run first, by which a rehearsal makes torch know a simulated device."""


class Skipped(Exception):  # noqa: N818  # it is no error
    """A step that cannot be done here, and why."""


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        batch: Images a batch.
        side: Side of the input.
        jpegs: JPEG files to extract; a quarter as many PNG files.
        picture: Side of these files.
        checked: Images whose features are compared with the CPU's.
        passes: Passes that are timed.
        networks: To compare with the CPU.
        timed: To time.
        compiled: To compile and time.
    """

    batch: int
    side: int
    jpegs: int
    picture: int
    checked: int
    passes: int
    networks: tuple[str, ...]
    timed: tuple[str, ...]
    compiled: tuple[str, ...]


VIT_B = "timm:vit_base_patch16_224"
FULL = Scale(
    batch=256,
    side=224,
    jpegs=16_384,
    picture=424,
    checked=512,
    passes=12,
    networks=("efficientnet-lite0", "timm:resnet50", "timm:vit_small_patch16_224"),
    timed=(
        VIT_B,
        "timm:vit_small_patch16_224",
        "timm:vit_large_patch16_224",
        "timm:resnet18",
        "timm:resnet50",
        "timm:convnext_base",
    ),
    compiled=("timm:resnet50", VIT_B),
)
SHORT = Scale(4, 32, 16, 48, 8, 2, ("timm:test_resnet", "timm:test_vit"), ("timm:test_resnet",), ())


@dataclass(frozen=True)
class Setting:
    """Where the steps run.

    Attributes:
        device: Device class.
        scale: How much is done.
        folder: For files; empty at first.
        precision: ``auto``, or what a rehearsal can do.
    """

    device: str
    scale: Scale
    folder: Path
    precision: str = "auto"

    @cached_property
    def runtime(self) -> Runtime:
        """What an extraction would use here by itself."""
        return resolve_runtime("torch", self.device, self.precision)

    @cached_property
    def is_gpu(self) -> bool:
        """Whether speed can be demanded: a rehearsal has none."""
        return self.device in ("cuda", "xpu", "mps") and self.scale is FULL

    @cached_property
    def gpu_name(self) -> str:
        """What the device calls itself."""
        name = getattr(torch.get_device_module(self.device), "get_device_name", None)
        return str(name()) if name else self.device

    @property
    def is_h100(self) -> bool:
        """Whether limits that were estimated for an H100 hold."""
        return self.is_gpu and "H100" in self.gpu_name

    def graph(self, name: str, channels: int = 3) -> tuple[Any, tuple[str, ...]]:
        """A network, real weights where they can be installed, and its first pooling."""
        weights = None if name == "efficientnet-lite0" else "random:0"
        backbone = load_backbone(name, weights, self.scale.side, False, channels)
        poolings = backbone.spec.poolings[:1]
        return build_graph(backbone, poolings), poolings

    def pixels(self, seed: int = 0) -> NDArray[np.uint8]:
        """A batch of noise."""
        shape = (self.scale.batch, 3, self.scale.side, self.scale.side)
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    def pictures(self, kind: str) -> Path:
        """A folder of JPEG or PNG files, written once."""
        count = self.scale.jpegs if kind == "jpeg" else self.scale.jpegs // 4
        place = self.folder / f"{kind}-{self.scale.picture}"
        return place if place.exists() else write_images(self.folder, kind, self.scale.picture, count)

    def seconds(self, call: Callable[[], object], rounds: int) -> float:
        """Seconds of a call, over several after one that does not count, until the device is done."""
        call()
        synchronize(self.device)
        started = perf_counter()
        for _ in range(rounds):
            call()
        synchronize(self.device)
        return (perf_counter() - started) / rounds


def synchronize(device: str) -> None:
    """Wait until the device is done."""
    if device != "cpu":
        torch.accelerator.synchronize()


def prepare() -> None:
    """Run the file that a rehearsal names."""
    if os.environ.get(PREPARE):
        runpy.run_path(os.environ[PREPARE])
