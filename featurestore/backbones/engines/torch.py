"""The engine torch on a CPU, one thread a worker; and what it shares with a GPU: layout, arithmetic, compilation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from featurestore.backbones.engines.graph import is_small
from featurestore.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from featurestore.backbones.engines.base import Pixels, Pooled, Runtime

Shape = tuple[int, int, int, int]


@contextmanager
def one_thread(others: int) -> Iterator[None]:
    """Let torch use a single thread in the calling one: helpers of several workers would spin in each other's way.

    Args:
        others: Number of threads of the process. torch hands the last number set to threads that start later, so this
            one is given back, and not the one found here, which may be another worker's.
    """
    import torch

    torch.get_num_threads()  # a thread takes over that number when it first asks, and must not do so inside
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(others)


class Network:
    """A graph on its device, in its layout and arithmetic; ``torch-compile`` has it compiled, which pays on a GPU.

    Args:
        module: The graph; it is changed in place.
        runtime: Engine, device and precision.
    """

    def __init__(self, module: nn.Module, runtime: Runtime) -> None:
        import torch

        self._device, self._type = runtime.device, _reduced_type(runtime.precision)
        self._layout = torch.channels_last if is_convolutional(module) else torch.contiguous_format
        placed = module.to(runtime.device).to(memory_format=self._layout)
        if self._type is not None:
            cast_weights(placed, self._type)
        elif runtime.device == "cuda":
            forbid_tf32()
        self.compiled = runtime.engine == "torch-compile"
        # The mode saves launches by CUDA graphs: they belong to the thread that calls first.
        mode = "reduce-overhead" if runtime.device == "cuda" else None
        self._run: Callable[[Tensor], tuple[Tensor, ...]] = (
            torch.compile(placed, dynamic=False, mode=mode) if self.compiled else placed
        )

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """One tensor for each pooling, of images on the device."""
        import torch

        reduced = self._type is not None
        with torch.inference_mode(), torch.autocast(self._device, self._type, enabled=reduced):
            return self._run(images.contiguous(memory_format=self._layout))

    def build(self, images: Tensor) -> tuple[Tensor, ...]:
        """The first call, in which a graph is compiled.

        Raises:
            BackboneError: It cannot be.
        """
        if not self.compiled:
            return self(images)
        try:
            return self(images)
        except Exception as error:  # a compiler that is missing or fails surfaces as almost anything
            if type(error).__name__ == "OutOfMemoryError":
                raise
            reason = (str(error) or repr(error)).splitlines()[0]
            raise BackboneError(
                f"torch cannot compile the model: {reason}",
                where="engine=torch-compile",
                hint="Install a C++ compiler, or use --engine torch.",
            ) from error


def is_convolutional(module: nn.Module) -> bool:
    """Whether windows of its convolutions overlap, as they do not where a transformer cuts patches out of an image."""
    from torch import nn

    return any(
        isinstance(part, nn.Conv2d)
        and any(side > step for side, step in zip(part.kernel_size, part.stride, strict=True))
        for part in module.modules()
    )


def cast_weights(module: nn.Module, dtype: Any) -> None:
    """Cast once what autocast would cast in every pass, to the same bits: weights of linear layers and convolutions.

    Subclasses stay as they are: some compute with their weights before they multiply.
    """
    from torch import nn

    for part in module.modules():
        if type(part) in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
            part.to(dtype)


def _reduced_type(precision: str) -> Any:
    """What autocast computes in; None for fp32."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


def forbid_tf32() -> None:
    """fp32 is fp32: cuDNN would round to 10 bits unasked.

    By the switch that torch has had for long: it refuses to read that where the newer ones have been set one by one.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class TorchForward:
    """A graph in torch on a CPU.

    A compiled graph serves one worker at a time: called from several threads, it is not safe. It is compiled for the
    pixels that are expected and one thread, as workers call it; others compile it again.
    """

    notes: Mapping[str, Any] = {}

    def __init__(
        self, module: nn.Module, poolings: tuple[str, ...], shape: Shape, runtime: Runtime, *, eight_bit: bool = False
    ) -> None:
        import torch

        self.batch_size, self.small, self._poolings = shape[0], is_small(module), poolings
        self._network, self._threads, self._turn = Network(module, runtime), torch.get_num_threads(), Lock()
        with one_thread(self._threads):
            pooled = self._network.build(torch.zeros(shape, dtype=torch.uint8 if eight_bit else torch.float32))
        self.shapes: Mapping[str, tuple[int, ...]] = {
            kind: tuple(values.shape[1:]) for kind, values in zip(poolings, pooled, strict=True)
        }

    def __call__(self, pixels: Pixels) -> Pooled:
        """See `featurestore.backbones.engines.base.Forward`."""
        import torch

        images = torch.from_numpy(pixels)
        with one_thread(self._threads):
            if not self._network.compiled:
                pooled = self._network(images)
            else:
                with self._turn:
                    pooled = self._network(images)
        return {kind: values.numpy() for kind, values in zip(self._poolings, pooled, strict=True)}
