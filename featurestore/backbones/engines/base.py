"""Engines: what runs a backbone, and in which arithmetic. One seam: OpenVINO and torch on a CPU, torch on a GPU."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec as find_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.backbones.engines.graph import build_graph
from featurestore.backbones.loading import first_run, run_blank_image
from featurestore.backbones.pooling import check_offered
from featurestore.errors import BackboneError, MissingDependencyError, UsageError
from featurestore.registry import unknown_name

if TYPE_CHECKING:
    from featurestore.backbones.base import Backbone

ENGINES = ("openvino", "torch", "torch-compile")
GPUS = ("cuda", "xpu", "mps")
"""Device classes that torch calls accelerators: NVIDIA's and AMD's, which it both calls cuda, Intel's, Apple's."""

DEVICES = ("cpu", *GPUS)
PRECISIONS = ("fp32", "bf16", "fp16")

Pixels = NDArray[np.float32] | NDArray[np.uint8]
Pooled = dict[str, NDArray[np.float32]]

_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", "/dev/dri")
"""What a driver leaves on Linux: NVIDIA's, that of Windows below WSL2, AMD's, and that of Intel among others."""


@dataclass(frozen=True)
class Runtime:
    """What runs a backbone, all decided.

    Attributes:
        engine: ``openvino``; ``torch``; ``torch-compile``, the same graph compiled, which takes up to minutes at first.
        device: ``cpu``, ``cuda``, ``xpu`` or ``mps``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """

    engine: str
    device: str
    precision: str


class Forward(Protocol):
    """A compiled backbone, safe to call from several threads at once.

    Attributes:
        shapes: Pooling -> shape of one image's features, (D,) or (h, w, D).
        batch_size: Images a call, B.
        small: Whether its weights can stay in the cache of a processor from one call to the next.
        notes: What the provenance has to say of it.
    """

    shapes: Mapping[str, tuple[int, ...]]
    batch_size: int
    small: bool

    @property
    def notes(self) -> Mapping[str, Any]: ...  # noqa: D102  # above

    def __call__(self, pixels: Any) -> Pooled:
        """Pooling -> float32 (B, *shape), of pixels (B, C, H, W), uint8 or float32 in [0, 1], whose shape is fixed.

        Both types give the same features: 8-bit pixels are divided by 255. They are the faster ones. Only a GPU takes
        images that are still to be resized (`featurestore.preprocessing.Unresized`).
        """
        ...


def resolve_runtime(engine: str = "auto", device: str = "auto", precision: str = "auto") -> Runtime:
    """Decide what ``auto`` leaves open.

    On a CPU: OpenVINO where it is installed, in exact fp32. On a GPU: torch, in bf16 where the GPU has it. The machine
    alone decides: a model that OpenVINO cannot convert is an error later on, never a silent change of engine, since the
    engine is in the key. torch is imported only on a machine that may have a GPU.

    Raises:
        UnknownNameError: No such engine, device or precision.
        UsageError: A combination that does not exist.
        MissingDependencyError: OpenVINO is asked for and not installed.
    """
    choices = ("engine", engine, ENGINES), ("device", device, DEVICES), ("precision", precision, PRECISIONS)
    for noun, value, known in choices:
        if value not in (*known, "auto"):
            raise unknown_name(noun, value, (*known, "auto"))
    if device == "auto":
        device = find_gpu() or "cpu"
    if engine == "auto":
        engine = "openvino" if device == "cpu" and find_module("openvino") else "torch"
    if precision == "auto":
        precision = "fp32" if device == "cpu" else _best_on(device)
    _check_combination(engine, device, precision)
    return Runtime(engine, device, precision)


def _check_combination(engine: str, device: str, precision: str) -> None:
    if engine == "openvino" and not find_module("openvino"):
        raise MissingDependencyError(
            "the engine openvino is not installed", where="engine", hint="Install it: pip install 'skyprobe[cpu]'."
        )
    if engine == "openvino" and device != "cpu":
        raise UsageError("OpenVINO runs on the CPU here", where=f"device={device}", hint="Use engine torch on a GPU.")
    if precision == "fp16" and device == "cpu":
        raise UsageError("fp16 is slow and inexact on a CPU", where="precision=fp16", hint="Use fp32 or bf16.")
    if device != "cpu" and device != find_gpu():
        raise UsageError(
            "no GPU that torch can use", where=f"device={device}", hint="Use device cpu, or leave it to auto."
        )


def find_gpu() -> str | None:
    """Device class of the GPU that torch can use here; None without one."""
    if sys.platform == "linux" and not any(Path(driver).exists() for driver in _DRIVERS):
        return None
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found is not None and found.type in GPUS else None


def _best_on(device: str) -> str:
    """bf16 where a GPU has it, else fp16: bf16 that is emulated takes longer than fp32."""
    import torch

    ask = getattr(torch.get_device_module(device), "is_bf16_supported", None)
    return "bf16" if ask is not None and ask(including_emulation=False) else "fp16"


def compile_forward(
    backbone: Backbone,
    poolings: Sequence[str],
    runtime: Runtime,
    batch_size: int,
    image_size: int,
    workers: int,
    *,
    eight_bit: bool = False,
) -> Forward:
    """Compile a backbone for one input shape.

    Args:
        backbone: The loaded model.
        poolings: Poolings to compute in one pass, such as ``cls``, or ``cls@6`` of layer 6.
        runtime: Engine, device and precision.
        batch_size: Images a call.
        image_size: Side of the square input in pixels.
        workers: Threads that will call it at the same time.
        eight_bit: Whether 8-bit pixels are expected; others are taken as well.

    Raises:
        BackboneError: The model does not run on images of that size; or the engine cannot run or compile it, or not in
            this precision on this CPU.
        PoolingError: The model does not offer a pooling.
    """
    spec = backbone.spec
    for kind in poolings:
        check_offered(kind.partition("@")[0], spec.name, spec.poolings, dense=spec.dense)
    module, kinds = build_graph(backbone, tuple(poolings)), tuple(poolings)
    shape = (batch_size, len(spec.mean), image_size, image_size)
    if runtime.engine == "openvino":
        from featurestore.backbones.engines.openvino import OpenVinoForward

        try:
            return OpenVinoForward(module, kinds, shape, runtime.precision, workers, spec.name, eight_bit=eight_bit)
        except BackboneError:
            run_blank_image(module, spec, image_size)  # another engine helps only if the model itself runs
            raise
    if runtime.device != "cpu":
        from featurestore.backbones.engines.device import DeviceForward

        with first_run(spec, image_size):
            return DeviceForward(module, kinds, shape, runtime, eight_bit=eight_bit)
    from featurestore.backbones.engines.torch import TorchForward

    with first_run(spec, image_size):
        return TorchForward(module, kinds, shape, runtime, eight_bit=eight_bit)
