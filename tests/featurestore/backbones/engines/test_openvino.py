from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from featurestore.backbones.engines import openvino as openvino_engine
from featurestore.backbones.engines.base import Runtime, compile_forward
from featurestore.backbones.engines.openvino import images_at_once
from featurestore.backbones.pooling import TokenFeatures
from featurestore.errors import BackboneError

OPENVINO = Runtime("openvino", "cpu", "fp32")


def pixels(n: int = 2, size: int = 96, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((n, 3, size, size), dtype=np.float32)


@pytest.mark.parametrize(
    ("weights", "batch", "precision", "expected"),
    [(8_000_000, 8, "fp32", 2), (8_000_000, 8, "bf16", 4), (8_000_001, 8, "fp32", 8), (10, 7, "fp32", 1)],
)
def test_a_batch_goes_through_a_small_network_in_parts(weights: int, batch: int, precision: str, expected: int) -> None:
    with torch.device("meta"):
        module = torch.nn.Linear(weights, 1, bias=False)
    assert images_at_once(module, batch, precision) == expected


def test_the_parts_of_a_batch_keep_their_order(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    found = []
    for few in (2, 6):
        monkeypatch.setattr(openvino_engine, "FEW_IMAGES", {"fp32": few})
        found.append(compile_forward(load("timm:test_vit"), ["cls"], OPENVINO, 6, 96, 1)(pixels(6))["cls"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert np.abs(found[0][0] - found[0][1]).max() > 1e-3


def test_warnings_are_logged_after_a_conversion(load: Any) -> None:
    pytest.importorskip("openvino")
    before = logging.getLogger().level
    compile_forward(load("timm:test_vit"), ["cls"], OPENVINO, 1, 96, 1)
    assert logging.getLogger().level == before


def test_a_model_that_openvino_cannot_convert(load: Any) -> None:
    pytest.importorskip("openvino")

    class Odd(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> Any:
            if torch.jit.is_tracing():
                raise RuntimeError("an odd operator")
            return TokenFeatures(None, cls=images.mean(dim=(2, 3)))

    odd: Any = Odd()
    with pytest.raises(BackboneError, match=r"OpenVINO cannot convert the model.*Use --engine torch"):
        compile_forward(replace(load("timm:test_vit"), tokens=odd), ["cls"], OPENVINO, 1, 96, 1)


def test_openvino_does_not_pass_fp32_off_as_bf16(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("openvino.Core.get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(BackboneError, match=r"this CPU has no bf16.*Use --precision fp32"):
        compile_forward(load("timm:test_vit"), ["cls"], Runtime("openvino", "cpu", "bf16"), 1, 96, 1)
