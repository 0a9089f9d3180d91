"""Every wait of the device engine is there for a reason: whichever is left out, features are wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featurestore.backbones.engines import device
from featurestore.backbones.engines.base import Runtime

N_BATCHES, N_CALLERS, SHAPE = 24, 4, (4, 3, 8, 8)

RACES = {
    "the pass does not wait for its pixels": (
        "                self._computing.wait_event(copied)\n",
        "",
    ),
    "features are read before they arrive": (
        "        flight.landed.synchronize()\n",
        "",
    ),
    "a slot is given back while it is copied": (
        "self._fill(slot, pixels)).result()\n",
        "self._fill(slot, pixels)).result()\n            self._slots.put(slot)\n",
    ),
    "a stage is given back while it is in flight": (
        "            return _Flight(stage, landed, (images, uploaded))\n",
        "            self._stages.put(stage)\n            return _Flight(stage, landed, (images, uploaded))\n",
    ),
    "features are not copied out of the stage": (
        "host.numpy().copy()",
        "host.numpy()",
    ),
}
"""What is planted, and how: text of the engine, and what stands in its place."""


class Copying(nn.Module):
    """Two copies on the device: all of it runs later, as kernels do."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        first = torch.empty_like(pixels).copy_(pixels)
        return (torch.empty_like(first).copy_(first),)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Give it a race: the engine with that race in it."""

    def load(race: str) -> Any:
        return load_engine(*RACES[race], monkeypatch)

    return load


def load_engine(old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The engine with one place changed."""
    source = Path(device.__file__).read_text()
    assert source.count(old) == 1, f"{old!r} is not in the engine once"
    module = ModuleType("planted")
    monkeypatch.setitem(sys.modules, "planted", module)
    exec(compile(source.replace(old, new), "planted", "exec"), module.__dict__)
    return module


def count_wrong(engine: Any) -> int:
    """Batches whose features are not their pixels, of several callers at once."""
    forward = engine.DeviceForward(Copying(), ("copy",), SHAPE, Runtime("torch", "sim", "fp32"))

    def call(start: int) -> Iterator[bool]:
        for number in range(start, N_BATCHES, N_CALLERS):
            found = forward(np.full(SHAPE, number, np.float32))["copy"]
            yield not (found == number).all()

    def count(start: int) -> int:
        return sum(call(start))

    def hold(start: int) -> int:
        """As `count`, but looks at the features after the last call."""
        found = {n: forward(np.full(SHAPE, n, np.float32))["copy"] for n in range(start, N_BATCHES, N_CALLERS)}
        return sum(not (values == number).all() for number, values in found.items())

    with ThreadPoolExecutor(N_CALLERS) as callers:
        return sum(callers.map(count, range(N_CALLERS))) + sum(callers.map(hold, range(N_CALLERS)))


@pytest.fixture(autouse=True)
def slow(sim: Any) -> None:
    sim.set_copy_time(1500)


def test_the_engine_as_it_is() -> None:
    assert count_wrong(device) == 0


@pytest.mark.parametrize("race", RACES)
def test_a_planted_race_is_found(race: str, plant: Callable[[str], Any]) -> None:
    assert count_wrong(plant(race)) > 0
