from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from shutil import which
from sysconfig import get_path
from threading import Event
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from featurestore.backbones.engines.base import Runtime, compile_forward
from featurestore.backbones.engines.graph import build_graph
from featurestore.backbones.engines.torch import cast_weights, forbid_tf32, is_convolutional
from featurestore.backbones.pooling import TokenFeatures
from featurestore.errors import BackboneError

TORCH = Runtime("torch", "cpu", "fp32")


def pixels(n: int = 2, size: int = 96, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((n, 3, size, size), dtype=np.float32)


def relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def own(backbone: Any) -> Any:
    """A copy: the engine torch lays the weights of convolutions out anew, and other tests share the loaded ones."""
    return replace(backbone, tokens=deepcopy(backbone.tokens))


def test_a_compiled_graph_of_torch_agrees(load: Any) -> None:
    """Compiled once, and called by several workers."""
    if not which("g++") or not (Path(get_path("include")) / "Python.h").exists():
        pytest.skip("torch.compile wants a C++ compiler and the headers of Python")
    backbone = own(load("timm:test_efficientnet"))
    forward = compile_forward(backbone, ["avgpool"], Runtime("torch-compile", "cpu", "fp32"), 2, 32, 2)
    exact = compile_forward(backbone, ["avgpool"], TORCH, 2, 32, 2)
    batches = [pixels(size=32, seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as workers:
        found = list(workers.map(forward, batches))
    for batch, result in zip(batches, found, strict=True):
        assert relative(result["avgpool"], exact(batch)["avgpool"]) < 2e-5


def test_a_graph_that_torch_cannot_compile(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_nothing(*_: Any, **__: Any) -> Any:
        def fail(_: torch.Tensor) -> Any:
            raise RuntimeError("No working C++ compiler found\nand more")

        return fail

    monkeypatch.setattr(torch, "compile", compile_nothing)
    with pytest.raises(
        BackboneError, match=r"cannot compile the model: No working C\+\+ compiler found \[.*engine torch"
    ):
        compile_forward(load("timm:test_vit"), ["cls"], Runtime("torch-compile", "cpu", "fp32"), 1, 96, 1)


class Hooked(torch.nn.Module):
    """Calls `hook` in the middle of a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.hook: Callable[[], object] = lambda: None

    def forward(self, images: torch.Tensor) -> TokenFeatures:
        self.hook()
        return TokenFeatures(images.permute(0, 2, 3, 1))


@pytest.fixture
def hooked(load: Any) -> Iterator[tuple[Any, Any]]:
    """A hooked module and its compiled forward, in a process of three threads."""
    before, module = torch.get_num_threads(), Hooked()
    backbone = replace(load("timm:test_vit"), tokens=cast("Any", module))
    torch.set_num_threads(3)
    try:
        yield module, compile_forward(backbone, ["avg_patch"], TORCH, 1, 96, 2)
    finally:
        torch.set_num_threads(before)


def test_a_worker_of_torch_is_one_thread_and_gives_back_the_number(hooked: tuple[Any, Any]) -> None:
    module, forward = hooked
    seen = []
    module.hook = lambda: seen.append(torch.get_num_threads())
    forward(pixels(1))
    assert seen == [1]
    assert torch.get_num_threads() == 3


def test_workers_that_overlap_leave_later_threads_their_number(hooked: tuple[Any, Any]) -> None:
    """The second worker starts while the first holds one thread, and ends after it."""
    module, forward = hooked
    first_is_in, second_is_in = Event(), Event()

    def wait_for_the_second() -> None:
        first_is_in.set()
        assert second_is_in.wait(60)

    def wait_for_the_first() -> None:
        second_is_in.set()
        first.result(60)

    with ThreadPoolExecutor(2) as workers:
        module.hook = wait_for_the_second
        first = workers.submit(forward, pixels(1))
        assert first_is_in.wait(60)
        module.hook = wait_for_the_first
        workers.submit(forward, pixels(1)).result(60)
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm:resnet18", True),
        ("timm:convnext_atto", True),
        ("timm:test_efficientnet", True),
        ("timm:test_vit", False),
        ("msn-s", False),
    ],
)
def test_networks_whose_windows_overlap_are_convolutional(name: str, expected: bool, load: Any) -> None:
    assert is_convolutional(load(name).tokens) is expected


@pytest.mark.parametrize(
    "name", ["timm:test_vit", "timm:test_vit3", "timm:test_efficientnet", "timm:resnet18", "msn-s"]
)
def test_weights_cast_once_give_the_bits_of_those_cast_in_every_pass(name: str, load: Any) -> None:
    backbone = own(load(name))
    graph, x = build_graph(backbone, backbone.spec.poolings[:1]), torch.from_numpy(pixels())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        (expected,) = graph(x)
        cast_weights(graph, torch.bfloat16)
        (found,) = graph(x)
    assert any(one.dtype == torch.bfloat16 for one in graph.parameters())
    assert torch.equal(found, expected)


def test_fp32_on_cuda_is_not_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = True
    forbid_tf32()
    assert "tf32" not in (torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision)  # type: ignore[attr-defined]
    with torch.backends.cudnn.flags(enabled=True):  # what others do; it reads the switches
        pass
    assert not torch.backends.cudnn.allow_tf32
