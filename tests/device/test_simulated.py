"""The simulated device is as unforgiving as a real one: whatever is left out shows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

N = 1024


@pytest.fixture(autouse=True)
def slow(sim: Any) -> None:
    sim.set_copy_time(5000)


def test_it_computes() -> None:
    x = torch.arange(6.0).reshape(2, 3).to("sim")
    assert (x @ x.T + 1).cpu().tolist() == [[6, 15], [15, 51]]
    accelerator = torch.accelerator.current_accelerator()
    assert accelerator is not None
    assert accelerator.type == "sim"


def test_pinned_memory_that_changes_before_it_was_copied() -> None:
    host, device, stream = torch.ones(N, pin_memory=True), torch.empty(N, device="sim"), torch.Stream(device="sim")
    with stream:
        device.copy_(host, non_blocking=True)
    host.fill_(2)
    stream.synchronize()
    assert device[0].item() == 2


@pytest.mark.parametrize("waits", [False, True])
def test_a_stream_that_reads_what_another_writes(waits: bool) -> None:
    host, device = torch.full((N,), 3.0, pin_memory=True), torch.zeros(N, device="sim")
    first, second = torch.Stream(device="sim"), torch.Stream(device="sim")
    torch.accelerator.synchronize()
    with first:
        device.copy_(host, non_blocking=True)
        written = first.record_event()
    with second:
        if waits:
            second.wait_event(written)
        seen = (device + 0).cpu()[0].item()
    assert (seen == 3) == waits
    torch.accelerator.synchronize()


def test_features_that_are_read_before_they_arrive() -> None:
    host, stream = torch.full((N,), -1.0, pin_memory=True), torch.Stream(device="sim")
    device = torch.ones(N).to("sim")
    with stream:
        host.copy_(device, non_blocking=True)
    assert host[0].item() == -1
    stream.synchronize()
    assert host[0].item() == 1


@pytest.mark.parametrize("recorded", [False, True])
def test_memory_that_is_freed_while_another_stream_reads_it(recorded: bool) -> None:
    source, target, stream = torch.full((N,), 7.0).to("sim"), torch.empty(N, device="sim"), torch.Stream(device="sim")
    torch.accelerator.synchronize()
    with stream:
        target.copy_(source)
    if recorded:
        source.record_stream(stream)
    del source
    stream.synchronize()
    assert (target[0].item() == 7) == recorded


def test_memory_has_a_limit(sim: Any) -> None:
    sim.set_limit(sim.used() + 1000)
    with pytest.raises(torch.OutOfMemoryError, match="sim out of memory"):
        torch.empty(10**6, device="sim")
