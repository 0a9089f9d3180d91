"""Processes that train together, as ``torchrun`` starts them; a single one for most users.

Each process takes its share of the batches; torch's DistributedDataParallel averages the gradients before each step.
Tested with processes on a CPU; written for GPUs too, and not tested on one.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Batch = TypeVar("Batch")

Losses = Callable[[Any], Mapping[str, Tensor]]
"""From a loaded batch to losses by name."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    def share(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Every `count`-th batch; what does not divide is left out, so that all processes make as many steps."""
        return batches[self.rank : len(batches) // self.count * self.count : self.count]

    def connect(self, module: nn.Module, losses: Losses) -> Losses:
        """The same losses of a module, whose gradients are averaged over all processes when they go backward.

        Parameters and buffers become those of the first process. What is trained has to want gradients already, and
        may not change afterwards. A parameter without a gradient in one process counts as zero there; looking for
        these also keeps the order of sums the same from step to step, which exact resuming needs.
        """
        if self.count == 1:
            return losses
        return DistributedDataParallel(_LossModule(module, losses), find_unused_parameters=True)

    def agree(self, value: float) -> float:
        """The first process's value."""
        if self.count == 1:
            return value
        shared = [value]
        torch.distributed.broadcast_object_list(shared, 0)
        return shared[0]


def without_averaging(losses: Losses) -> AbstractContextManager[None]:
    """Gradients of what runs inside are added up here alone; the next ones outside are averaged with them."""
    return losses.no_sync() if isinstance(losses, DistributedDataParallel) else nullcontext()


def join_processes(device: torch.device) -> Processes:
    """The group that ``torchrun`` announces in the environment, joined once; a group of one without it.

    It has to be joined before anything is moved to the device: until then, all processes would use the first GPU.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if not torch.distributed.is_initialized():
        if device.type != "cpu":
            torch.accelerator.set_device_index(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group(torch.distributed.get_default_backend_for_device(device))
        atexit.register(_leave_group)
    return Processes(torch.distributed.get_rank(), count)


def _leave_group() -> None:
    """Leave the group in order: a process that just ends can bring down the others.

    What still refers to the group goes first, so that its threads have ended before the interpreter does. A thread that
    wants the interpreter afterwards aborts the process.
    """
    gc.collect()
    torch.distributed.destroy_process_group()


def describe_processes() -> dict[str, int]:
    """What an identity says of the processes, since a step looks at a batch of each; nothing for a single one."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    return {"processes": count} if count > 1 else {}


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return int(os.environ.get("RANK", "0")) == 0


class _LossModule(nn.Module):
    """A module with its losses as the forward pass, for a wrapper that watches forward passes."""

    def __init__(self, module: nn.Module, losses: Losses) -> None:
        super().__init__()
        self.module, self.losses = module, losses

    def forward(self, loaded: Any) -> dict[str, Tensor]:
        return dict(self.losses(loaded))
