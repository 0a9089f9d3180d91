"""Engines: what runs a backbone, and in which arithmetic. One seam, two engines: torch and OpenVINO.

Normalisation and pooling are part of the graph. GPU code is written and guarded; it has not been tested on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec as find_module
from math import gcd
from pathlib import Path
from threading import Lock, local
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import BackboneError, MissingDependencyError, UsageError
from featurestore.pooling import check_offered, pool
from featurestore.registry import unknown_name

if TYPE_CHECKING:
    from torch import nn

    from featurestore.backbones.base import Backbone

ENGINES = ("openvino", "torch")
DEVICES = ("cpu", "cuda")
PRECISIONS = ("fp32", "bf16", "fp16")

SMALL_NETWORK = 8_000_000
FEW_IMAGES = {"fp32": 2, "bf16": 4}
"""Weights up to which a network is small, and images that go through it together: equal bytes; see `images_at_once`."""

Pixels = NDArray[np.float32]
Pooled = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Runtime:
    """What runs a backbone, all decided.

    Attributes:
        engine: ``openvino`` or ``torch``.
        device: ``cpu`` or ``cuda``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
    """

    engine: str
    device: str
    precision: str


class Forward(Protocol):
    """A compiled backbone, safe to call from several threads at once.

    Attributes:
        shapes: Pooling -> shape of one image's features, (D,) or (h, w, D).
    """

    shapes: Mapping[str, tuple[int, ...]]

    def __call__(self, pixels: Pixels) -> Pooled:
        """Pooling -> float32 (B, *shape), of float32 (B, C, H, W) pixels in [0, 1], whose shape is fixed."""
        ...


def resolve_runtime(engine: str = "auto", device: str = "auto", precision: str = "auto") -> Runtime:
    """Decide what ``auto`` leaves open.

    On a CPU: OpenVINO where it is installed, in exact fp32. On a GPU: torch, in bf16 where the GPU has it. The machine
    alone decides: a model that OpenVINO cannot convert is an error later on, never a silent change of engine, since the
    engine stands in the key. torch is imported only on a machine with an NVIDIA device.

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
        device = "cuda" if _has_cuda() else "cpu"
    if engine == "auto":
        engine = "openvino" if device == "cpu" and find_module("openvino") else "torch"
    if precision == "auto":
        precision = "fp32" if device == "cpu" else _best_on_gpu()
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
    if device == "cuda" and not _has_cuda():
        raise UsageError("no GPU that torch can use", where="device=cuda", hint="Use device cpu, or leave it to auto.")


def _has_cuda() -> bool:
    if not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()


def _best_on_gpu() -> str:
    import torch

    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def compile_forward(
    backbone: Backbone, poolings: Sequence[str], runtime: Runtime, batch_size: int, image_size: int, lanes: int
) -> Forward:
    """Compile a backbone for one input shape.

    Args:
        backbone: The loaded model.
        poolings: Poolings to compute in one pass, such as ``cls``, or ``cls@6`` of layer 6.
        runtime: Engine, device and precision.
        batch_size: Images a call.
        image_size: Side of the square input in pixels.
        lanes: Threads that will call it at the same time.

    Raises:
        BackboneError: The engine cannot run this model, or not in this precision on this CPU.
        PoolingError: The model does not offer a pooling.
    """
    for kind in poolings:
        check_offered(kind.partition("@")[0], backbone.spec.name, backbone.spec.poolings)
    module = _graph(backbone, tuple(poolings))
    shape = (batch_size, len(backbone.spec.mean), image_size, image_size)
    if runtime.engine == "openvino":
        return _OpenVinoForward(module, tuple(poolings), shape, runtime.precision, lanes, backbone.spec.name)
    return _TorchForward(module, tuple(poolings), shape, runtime)


@contextmanager
def one_thread(others: int) -> Iterator[None]:
    """Let torch use a single thread in the calling one: helpers of several lanes would spin in each other's way.

    Args:
        others: Number of threads of the process. torch hands the last number set to threads that start later, so this
            one is given back, and not the one found here, which may be another lane's.
    """
    import torch

    torch.get_num_threads()  # a thread takes over that number when it first asks, and must not do so inside
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(others)


def images_at_once(module: nn.Module, batch_size: int, precision: str) -> int:
    """How many images of a batch go through a network together on a CPU core; divides the batch.

    The weights of a small network stay in the core's cache, and so should what goes from layer to layer; those of a
    large one have to be fetched for every pass, which should serve many images. The rule looks at the network alone,
    so that the same batch gives the same bytes everywhere.
    """
    n_weights = sum(one.numel() for one in module.parameters())
    return gcd(batch_size, FEW_IMAGES[precision]) if n_weights <= SMALL_NETWORK else batch_size


def _listening(backbone: Backbone, poolings: Sequence[str]) -> nn.Module:
    """The backbone, which also returns the inner layers that the poolings name."""
    layers = sorted({int(layer) for layer in (kind.partition("@")[2] for kind in poolings) if layer})
    if not layers:
        return backbone.tokens
    from featurestore.backbones.layers import LayeredTokens

    return LayeredTokens(backbone.spec, backbone.tokens, layers)


def _graph(backbone: Backbone, poolings: tuple[str, ...]) -> nn.Module:
    """Pixels in [0, 1] -> normalisation -> tokens -> one tensor for each pooling."""
    import torch
    from torch import Tensor, nn

    class Graph(nn.Module):
        mean: Tensor
        std: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.tokens = _listening(backbone, poolings)
            self.register_buffer("mean", torch.tensor(backbone.spec.mean).reshape(1, -1, 1, 1))
            self.register_buffer("std", torch.tensor(backbone.spec.std).reshape(1, -1, 1, 1))

        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            features = self.tokens((pixels - self.mean) / self.std)
            return tuple(pool(features, kind).float() for kind in poolings)

    return Graph().eval().requires_grad_(False)


class _TorchForward:
    """torch, one intra-op thread a lane on a CPU; on a GPU the forwards of the lanes take turns."""

    def __init__(
        self, module: nn.Module, poolings: tuple[str, ...], shape: tuple[int, int, int, int], runtime: Runtime
    ) -> None:
        import torch

        convolutional = any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
        self._layout = torch.channels_last if convolutional else torch.contiguous_format
        self._module = module.to(runtime.device).to(memory_format=self._layout)
        self._runtime, self._poolings, self._turn = runtime, poolings, Lock()
        self._threads = torch.get_num_threads()
        pooled = self(np.zeros(shape, dtype=np.float32))
        self.shapes: Mapping[str, tuple[int, ...]] = {kind: values.shape[1:] for kind, values in pooled.items()}

    def __call__(self, pixels: Pixels) -> Pooled:
        with one_thread(self._threads) if self._runtime.device == "cpu" else self._turn:
            return self._run(pixels)

    def _run(self, pixels: Pixels) -> Pooled:
        import torch

        types = {"bf16": torch.bfloat16, "fp16": torch.float16}
        precision, device = self._runtime.precision, self._runtime.device
        images = torch.from_numpy(pixels).to(device, non_blocking=True).contiguous(memory_format=self._layout)
        with torch.inference_mode(), torch.autocast(device, types.get(precision), enabled=precision in types):
            pooled = self._module(images)
        return {kind: values.cpu().numpy() for kind, values in zip(self._poolings, pooled, strict=True)}


class _OpenVinoForward:
    """OpenVINO on the CPU: one stream and one inference request a lane."""

    def __init__(
        self,
        module: nn.Module,
        poolings: tuple[str, ...],
        shape: tuple[int, int, int, int],
        precision: str,
        lanes: int,
        name: str,
    ) -> None:
        import openvino

        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackboneError(
                "this CPU has no bf16, and OpenVINO would use fp32 unasked", where=name, hint="Use --precision fp32."
            )
        self._at_once = images_at_once(module, shape[0], precision)
        model = _convert(module, (self._at_once, *shape[1:]), name)
        settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "NUM_STREAMS": lanes,
            "INFERENCE_NUM_THREADS": lanes,
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = core.compile_model(model, "CPU", settings)
        self._poolings, self._requests = poolings, local()
        self.shapes: Mapping[str, tuple[int, ...]] = {
            kind: tuple(output.get_shape())[1:] for kind, output in zip(poolings, self._compiled.outputs, strict=True)
        }

    def __call__(self, pixels: Pixels) -> Pooled:
        request: Any = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        passes = [
            request.infer([pixels[start : start + self._at_once]], share_inputs=True, share_outputs=False)
            for start in range(0, len(pixels), self._at_once)
        ]
        return {kind: np.concatenate([one[number] for one in passes]) for number, kind in enumerate(self._poolings)}


def _convert(module: nn.Module, shape: tuple[int, int, int, int], name: str) -> Any:
    """The graph in OpenVINO's form, with a static shape."""
    import warnings

    import openvino
    import torch

    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # tracing warns of shapes that become constants: they are, here
            return openvino.convert_model(module, example_input=torch.zeros(shape), input=list(shape))
    except Exception as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise BackboneError(
            f"OpenVINO cannot convert the model: {reason}", where=name, hint="Use --engine torch."
        ) from error
