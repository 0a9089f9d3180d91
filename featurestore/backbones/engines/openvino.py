"""The engine OpenVINO, on a CPU: one stream and one inference request a worker."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import gcd
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.backbones.engines.graph import is_small
from featurestore.errors import BackboneError
from featurestore.preprocessing import to_unit

if TYPE_CHECKING:
    from torch import nn

    from featurestore.backbones.engines.base import Pixels, Pooled

Shape = tuple[int, int, int, int]

FEW_IMAGES = {"fp32": 2, "bf16": 4}
"""Images that go through a small network together: equal bytes; see `images_at_once`."""


def images_at_once(module: nn.Module, batch_size: int, precision: str) -> int:
    """How many images of a batch go through a network together on a CPU core; divides the batch.

    The weights of a small network stay in the core's cache, and so should what goes from layer to layer; those of a
    large one have to be fetched for every pass, which should serve many images. The rule looks at the network alone,
    so that the same batch gives the same bytes everywhere.
    """
    return gcd(batch_size, FEW_IMAGES[precision]) if is_small(module) else batch_size


class OpenVinoForward:
    """A graph compiled for the pixels that are expected, 8-bit or float32.

    It takes the others too: 8-bit ones become float32 before they go in; for float32 ones the graph is compiled again
    when the first come.
    """

    notes: Mapping[str, Any] = {}

    def __init__(
        self,
        module: nn.Module,
        poolings: tuple[str, ...],
        shape: Shape,
        precision: str,
        workers: int,
        name: str,
        *,
        eight_bit: bool,
    ) -> None:
        import openvino

        self._core = openvino.Core()
        if precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackboneError(
                "this CPU has no bf16, and OpenVINO would use fp32 unasked", where=name, hint="Use --precision fp32."
            )
        self.batch_size, self.small, self._poolings = shape[0], is_small(module), poolings
        self._module, self._name = module, name
        self._at_once = images_at_once(module, shape[0], precision)
        self._shape = (self._at_once, *shape[1:])
        self._settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "NUM_STREAMS": workers,
            "INFERENCE_NUM_THREADS": workers,
            "ENABLE_CPU_PINNING": False,
        }
        self._expected = np.dtype(np.uint8 if eight_bit else np.float32)
        self._compiled = {self._expected: self._compile(self._expected)}
        self._compiling, self._own = Lock(), local()
        outputs = self._compiled[self._expected].outputs
        self.shapes: Mapping[str, tuple[int, ...]] = {
            kind: tuple(output.get_shape())[1:] for kind, output in zip(poolings, outputs, strict=True)
        }

    def __call__(self, pixels: Pixels) -> Pooled:
        """See `featurestore.backbones.engines.base.Forward`."""
        if self._expected == np.float32:
            pixels = to_unit(pixels) if pixels.dtype == np.uint8 else pixels
        images, request = np.ascontiguousarray(pixels), self._request(pixels.dtype)
        passes = [
            request.infer([images[start : start + self._at_once]], share_inputs=True, share_outputs=False)
            for start in range(0, len(images), self._at_once)
        ]
        return {kind: np.concatenate([one[number] for one in passes]) for number, kind in enumerate(self._poolings)}

    def _request(self, dtype: np.dtype[Any]) -> Any:
        """The calling thread's own request for pixels of a type."""
        requests: dict[np.dtype[Any], Any] = vars(self._own).setdefault("requests", {})
        if dtype not in requests:
            with self._compiling:
                if dtype not in self._compiled:
                    self._compiled[dtype] = self._compile(dtype)
            requests[dtype] = self._compiled[dtype].create_infer_request()
        return requests[dtype]

    def _compile(self, dtype: np.dtype[Any]) -> Any:
        return self._core.compile_model(_convert(self._module, self._shape, dtype, self._name), "CPU", self._settings)


def _convert(module: nn.Module, shape: Shape, dtype: np.dtype[Any], name: str) -> Any:
    """The graph in OpenVINO's form, for pixels of one type and a static shape."""
    import warnings

    import openvino
    import torch

    try:
        with warnings.catch_warnings(), torch.inference_mode(), _log_level_kept():
            warnings.simplefilter("ignore")  # tracing warns of shapes that become constants: they are, here
            example = torch.from_numpy(np.zeros(shape, dtype))
            return openvino.convert_model(module, example_input=example, input=list(shape))
    except Exception as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise BackboneError(
            f"OpenVINO cannot convert the model: {reason}", where=name, hint="Use --engine torch."
        ) from error


@contextmanager
def _log_level_kept() -> Iterator[None]:
    """OpenVINO's conversion leaves the root logger at ERROR, and no warning of anybody would be seen after it."""
    root = logging.getLogger()
    level = root.level
    try:
        yield
    finally:
        root.setLevel(level)
