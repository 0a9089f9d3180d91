"""The engine torch: one thread a worker on a CPU; on a GPU the workers copy side by side, and compute in turn.

GPU code is written and guarded; it has not been tested on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.backbones.engines.graph import is_small
from featurestore.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from featurestore.backbones.engines.base import Pixels, Pooled, Runtime


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


class TorchForward:
    """A graph in torch; ``torch-compile`` has it compiled, which pays on a GPU.

    A compiled graph serves one worker at a time, also on a CPU: called from several threads, it is not safe.
    """

    def __init__(
        self, module: nn.Module, poolings: tuple[str, ...], shape: tuple[int, int, int, int], runtime: Runtime
    ) -> None:
        import torch

        convolutional = any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules())
        self._layout = torch.channels_last if convolutional else torch.contiguous_format
        self.batch_size, self.small, self._runtime, self._poolings = shape[0], is_small(module), runtime, poolings
        self._threads, self._turn, self._own = torch.get_num_threads(), Lock(), local()
        placed = module.to(runtime.device).to(memory_format=self._layout)
        compiled = runtime.engine == "torch-compile"
        self._module: Callable[[Tensor], tuple[Tensor, ...]] = (
            torch.compile(placed, dynamic=False) if compiled else placed
        )
        self._run = self._on_gpu if runtime.device == "cuda" else self._in_turn if compiled else self._in_lane
        pooled = self._try(np.zeros(shape, dtype=np.float32)) if compiled else self(np.zeros(shape, dtype=np.float32))
        self.shapes: Mapping[str, tuple[int, ...]] = {kind: values.shape[1:] for kind, values in pooled.items()}

    def __call__(self, pixels: Pixels) -> Pooled:
        """See `featurestore.backbones.engines.base.Forward`."""
        return {kind: values.numpy() for kind, values in zip(self._poolings, self._run(pixels), strict=True)}

    def _try(self, pixels: Pixels) -> Pooled:
        """The first call of a compiled graph, which builds it."""
        try:
            return self(pixels)
        except Exception as error:  # a compiler that is missing or fails surfaces as almost anything
            reason = (str(error) or repr(error)).splitlines()[0]
            raise BackboneError(
                f"torch cannot compile the model: {reason}",
                where="engine=torch-compile",
                hint="Install a C++ compiler, or use --engine torch.",
            ) from error

    def _in_lane(self, pixels: Pixels) -> tuple[Tensor, ...]:
        import torch

        with one_thread(self._threads):
            return self._compute(torch.from_numpy(pixels))

    def _in_turn(self, pixels: Pixels) -> tuple[Tensor, ...]:
        import torch

        with self._turn:
            return self._compute(torch.from_numpy(pixels))

    def _on_gpu(self, pixels: Pixels) -> tuple[Tensor, ...]:
        """Copies go by a stream of the worker's own, from pinned memory: they run beside the pass of another worker."""
        import torch

        stream: Any = getattr(self._own, "stream", None)
        if stream is None:
            stream = self._own.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            images = torch.from_numpy(pixels).pin_memory().to("cuda", non_blocking=True)
            with self._turn:
                pooled = self._compute(images)
                stream.synchronize()
            return tuple(values.cpu() for values in pooled)

    def _compute(self, images: Tensor) -> tuple[Tensor, ...]:
        import torch

        types = {"bf16": torch.bfloat16, "fp16": torch.float16}
        precision, device = self._runtime.precision, self._runtime.device
        with torch.inference_mode(), torch.autocast(device, types.get(precision), enabled=precision in types):
            return self._module(images.contiguous(memory_format=self._layout))
