"""Networks on a CUDA device that is only pretended: shapes, types and devices of every operator, and no values.

A few in ``make test``; the whole catalogue at its real size in ``make test-device``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import open_clip
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from featurestore.backbones.base import Backbone
from featurestore.backbones.catalogue import ADAPTERS, CATALOGUE
from featurestore.backbones.engines.base import Runtime
from featurestore.backbones.engines.graph import build_graph
from featurestore.backbones.engines.torch import Network
from featurestore.backbones.weights import WeightsSource

BATCH = 256
FEW = ("resnet-18", "convnext-b-in22k", "dinov2-s", "msn-b", "radio-b", "clip-b-openai", "efficientnet-lite0")
NAMES = tuple(CATALOGUE) if os.environ.get("SKYPROBE_TEST_DEVICE") else FEW
OWN_WEIGHTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Casts(TorchDispatchMode):
    """Counts operators, and casts of weights that were to be cast already."""

    def __init__(self, weights: set[int]) -> None:
        super().__init__()
        self.weights, self.operators, self.casts = weights, Counter[str](), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators[str(func)] += 1
        if str(func).startswith("aten._to_copy") and id(args[0]) in self.weights:
            self.casts += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CUDA as autocast sees it; and open_clip's models without memory, as the others are made."""
    create = open_clip.create_model
    monkeypatch.setattr(open_clip, "create_model", lambda *names, **options: create(*names, device="meta", **options))
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(nn.Module, "to", convert)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    before = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = before


def convert(module: nn.Module, *args: Any, **options: Any) -> nn.Module:
    """`nn.Module.to`, which would have to swap tensors that are only pretended."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None and ("memory_format" not in options or weight.ndim == 4):
                part._parameters[name] = nn.Parameter(weight.to(*args, **options), requires_grad=False)
    return module


def to_fake_cuda(module: nn.Module) -> None:
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=weight.dtype, device="cuda")
                part._parameters[name] = nn.Parameter(fake, requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_goes_through_on_cuda(name: str) -> None:
    spec = CATALOGUE[name]
    with torch.device("meta"):
        build = ADAPTERS.get(spec.adapter).build
        tokens = build(spec, WeightsSource("random", "0"), spec.image_size, False).eval().requires_grad_(False)
    graph = build_graph(Backbone(spec, tokens, "0", "x"), spec.poolings)
    with FakeTensorMode(), torch.no_grad():
        to_fake_cuda(graph)
        network = Network(graph, Runtime("torch", "cuda", "bf16"))
        cast = [part.weight for part in graph.modules() if type(part) in OWN_WEIGHTS]
        pixels = torch.empty(BATCH, 3, spec.image_size, spec.image_size, dtype=torch.uint8, device="cuda")
        with Casts({id(weight) for weight in cast}) as seen:
            outputs = network(pixels)
    assert {weight.dtype for weight in cast} == {torch.bfloat16}
    assert seen.casts == 0
    assert sum(seen.operators.values()) > 50
    assert [(len(one), one.dtype, one.device.type) for one in outputs] == [
        (BATCH, torch.float32, "cuda") for _ in spec.poolings
    ]
