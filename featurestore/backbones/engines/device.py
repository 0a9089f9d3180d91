"""The engine torch on a GPU: one thread launches, one stream copies, another computes, and two passes are in flight.

Whoever calls waits for its own pass alone. Pixels go from pinned slots, and features come back into pinned memory. Only
``torch.accelerator``, ``torch.Stream`` and its events are used, so that all GPUs, and the simulated one of the tests,
share one path. Tested on the simulated device (``make test-device``); it has not been run on a GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from featurestore.backbones.engines.device_resizing import Group, Staged, resize_into, stage_images
from featurestore.backbones.engines.torch import Network, Shape
from featurestore.errors import BackboneError
from featurestore.preprocessing import Unresized

if TYPE_CHECKING:
    from torch import nn

    from featurestore.backbones.engines.base import Pixels, Pooled, Runtime

_SLOTS = 3
"""Batches in pinned memory: two in flight, and one that is being filled."""

_IN_FLIGHT = 2
"""Passes launched and not yet fetched: the GPU has the next one before it is done with this one."""

_ONE_STREAM = ("cpu", "mps")
"""Devices without streams of their own making, and without pinned memory."""

_log = logging.getLogger("skyprobe")


@cache
def device_thread(device: str) -> ThreadPoolExecutor:
    """The only thread that launches anything on a device: graphs and compiled code belong to the thread they are of."""
    return ThreadPoolExecutor(1, f"device-{device}")


class OneStream:
    """A stream where there is only one: everything is in order by itself, and waiting waits for all of it."""

    def __init__(self, device: str) -> None:
        self._device = device

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        """Nothing to do."""

    def record_event(self) -> Self:
        """This stream, which can be waited for."""
        return self

    def synchronize(self) -> None:
        """Wait for everything."""
        if self._device != "cpu":
            torch.accelerator.synchronize()


def make_stream(device: str) -> Any:
    """A new stream of a device, or its only one."""
    return OneStream(device) if device in _ONE_STREAM else torch.Stream(device=device)


def record_event(stream: Any, device: str) -> Any:
    """What a stream has to do so far, to be waited for: a thread that does so sleeps, and does not spin."""
    return stream if isinstance(stream, OneStream) else stream.record_event(torch.Event(device, blocking=True))


class _Buffers:
    """One tensor of a shape for each type of pixels, made when the type first comes."""

    def __init__(self, shape: Shape, **place: Any) -> None:
        self._shape, self._place, self._by_type = shape, place, dict[torch.dtype, Tensor]()

    def of(self, dtype: torch.dtype) -> Tensor:
        """The tensor of that type."""
        if dtype not in self._by_type:
            with torch.inference_mode():
                self._by_type[dtype] = torch.empty(self._shape, dtype=dtype, **self._place)
        return self._by_type[dtype]


@dataclass(frozen=True)
class _Stage:
    """What a pass in flight has for itself.

    Attributes:
        pixels: On the device.
        features: Pinned, one for each pooling.
    """

    pixels: _Buffers
    features: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class _Flight:
    """A pass that was launched.

    Attributes:
        stage: Where it works.
        landed: Event after which its features are there.
        held: What it reads, which may not go before.
    """

    stage: _Stage
    landed: Any
    held: object


class DeviceForward:
    """A graph on a GPU.

    Where its memory does not hold a whole batch, the pass is halved until it does: once, when the graph is built.
    Batches keep their size.

    Attributes:
        shapes: See `featurestore.backbones.engines.base.Forward`, and so the others.
        pass_size: Images that go through the network together; divides the batch.
        replays: Whether the network is replayed as a recorded graph.
    """

    small = False

    def __init__(
        self, module: nn.Module, poolings: tuple[str, ...], shape: Shape, runtime: Runtime, *, eight_bit: bool = False
    ) -> None:
        self.batch_size, self.pass_size, self._poolings, self._shape = shape[0], shape[0], poolings, shape
        self._device, self._expected = runtime.device, torch.uint8 if eight_bit else torch.float32
        self._pinned = runtime.device not in _ONE_STREAM
        self._copying, self._computing = make_stream(self._device), make_stream(self._device)
        self._thread = device_thread(self._device)
        self._slots, self._stages = SimpleQueue[_Buffers](), SimpleQueue[_Stage]()
        self._run: Callable[[Tensor], Sequence[Tensor]]
        self.replays = False
        self.shapes: Mapping[str, tuple[int, ...]] = self._thread.submit(self._build, module, runtime).result()

    @property
    def notes(self) -> Mapping[str, Any]:
        """The pass that fits, where it is smaller than a batch; and which GPU it was."""
        halved = {"pass_size": self.pass_size} if self.pass_size < self.batch_size else {}
        name = getattr(torch.get_device_module(self._device), "get_device_name", None)
        return halved | ({"gpu": name()} if name else {})

    def __call__(self, pixels: Pixels | Unresized) -> Pooled:
        """See `featurestore.backbones.engines.base.Forward`.

        Raises:
            BackboneError: The GPU ran out of memory.
        """
        slot = self._slots.get()
        try:
            flight = self._thread.submit(self._launch, self._fill(slot, pixels)).result()
            try:
                return self._fetch(flight)
            finally:
                self._stages.put(flight.stage)
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory() from error
        finally:
            self._slots.put(slot)

    def _fill(self, slot: _Buffers, pixels: Pixels | Unresized) -> Tensor | Staged:
        """Pixels in pinned memory."""
        if isinstance(pixels, Unresized):
            return stage_images(pixels, pinned=self._pinned)
        host = slot.of(torch.uint8 if pixels.dtype == np.uint8 else torch.float32)
        np.copyto(host.numpy(), pixels)
        return host

    @torch.inference_mode()
    def _launch(self, images: Tensor | Staged) -> _Flight:
        """Launch a pass; on the device's thread."""
        stage = self._stages.get()
        try:
            pixels = stage.pixels.of(images.dtype)
            with self._copying:
                uploaded = self._upload(images, pixels)
                copied = self._copying.record_event()
            with self._computing:
                self._computing.wait_event(copied)
                if isinstance(images, Staged):
                    resize_into(pixels, images.preprocessing, uploaded)
                for start in range(0, self.batch_size, self.pass_size):
                    part = slice(start, start + self.pass_size)
                    for host, values in zip(stage.features, self._run(pixels[part]), strict=True):
                        host[part].copy_(values, non_blocking=True)
                landed = record_event(self._computing, self._device)
            return _Flight(stage, landed, (images, uploaded))
        except BaseException:
            self._stages.put(stage)
            raise

    def _upload(self, images: Tensor | Staged, pixels: Tensor) -> Sequence[Group]:
        """Start the copies; those of images that are still to be resized have places of their own."""
        if isinstance(images, Staged):
            return [group.to(self._device) for group in images.groups]
        pixels.copy_(images, non_blocking=True)
        return ()

    def _fetch(self, flight: _Flight) -> Pooled:
        """Wait for a pass, and copy its features out of the stage."""
        flight.landed.synchronize()
        hosts = zip(self._poolings, flight.stage.features, strict=True)
        return {kind: host.numpy().copy() for kind, host in hosts}

    @torch.inference_mode()
    def _build(self, module: nn.Module, runtime: Runtime) -> Mapping[str, tuple[int, ...]]:
        """Place the network, find the pass that fits, and try it; on the device's thread."""
        try:
            with self._computing:
                network = Network(module, runtime)
                stages = [_Stage(_Buffers(self._shape, device=self._device)) for _ in range(_IN_FLIGHT)]
                blank = [stage.pixels.of(self._expected).zero_() for stage in stages]
                outputs = self._find_pass(network, blank[0])
                self._run = network if network.compiled else self._capture(network, blank[0][: self.pass_size])
            self._computing.synchronize()  # what the copying stream gets next may be memory of these passes
        except torch.OutOfMemoryError as error:
            raise self._out_of_memory() from error
        for stage in stages:
            stage.features.extend(self._pin(self.batch_size, *values.shape[1:]) for values in outputs)
            self._stages.put(stage)
        for _ in range(_SLOTS):
            self._slots.put(_Buffers(self._shape, pin_memory=self._pinned))
        return {kind: tuple(one.shape[1:]) for kind, one in zip(self._poolings, outputs, strict=True)}

    def _find_pass(self, network: Network, pixels: Tensor) -> Sequence[Tensor]:
        """Run the largest pass that fits into the GPU's memory."""
        for size in _divisors(self.batch_size):
            try:
                outputs = network.build(pixels[:size])
                self._computing.synchronize()
            except torch.OutOfMemoryError:
                pass  # the memory is free only when the error is
            else:
                self._note_pass(size)
                return outputs
            torch.accelerator.empty_cache()
        raise torch.OutOfMemoryError

    def _note_pass(self, size: int) -> None:
        self.pass_size = size
        if size < self.batch_size:
            _log.warning("the GPU's memory holds %d images a pass, not %d", size, self.batch_size)

    def _capture(self, network: Network, pixels: Tensor) -> Callable[[Tensor], Sequence[Tensor]]:
        """The network as a graph that is launched at once, where the device has them and the bits are the same."""
        try:
            replay = _record(network, pixels.clone())
            random = torch.randint(0, 256, pixels.shape, device="cpu").to(pixels)
            same = all(map(torch.equal, network(random), replay(random)))
        except (AttributeError, NotImplementedError, RuntimeError) as error:  # no graphs here, or no memory for one
            _log.debug("no graph of the network: %s", error)
            return network
        self.replays = same
        return replay if same else network

    def _pin(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, pin_memory=self._pinned)

    def _out_of_memory(self) -> BackboneError:
        return BackboneError(
            "the GPU ran out of memory",
            where=f"device={self._device}, {self.pass_size} images a pass",
            hint="End other programs that use it and run the same command again; or use --device cpu.",
        )


def _record(network: Network, static: Tensor) -> Callable[[Tensor], Sequence[Tensor]]:
    """Record a pass over `static`; other pixels are copied there before it is replayed."""
    graph = torch.accelerator.Graph()
    with graph:
        outputs = network(static)

    def replay(pixels: Tensor) -> Sequence[Tensor]:
        if pixels.dtype != static.dtype:
            return network(pixels)
        static.copy_(pixels)
        graph.replay()
        return outputs

    return replay


def _divisors(number: int) -> Iterator[int]:
    """A number, and again and again its largest divisor that is at most half of the one before."""
    while number:
        yield number
        number = next((part for part in range(number // 2, 0, -1) if number % part == 0), 0)
