"""Processes that train together, as ``torchrun`` starts them; a single one for most users.

Each process takes its share of the batches, and gradients are averaged before each step. Tested with processes on a
CPU; written for GPUs too, and not tested on one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed
from torch import Tensor, nn

Batch = TypeVar("Batch")


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

    def spread(self, module: nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        for tensor in module.state_dict().values() if self.count > 1 else ():
            torch.distributed.broadcast(tensor, 0)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients; one that a process lacks counts as zero."""
        if self.count > 1:
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                self._mean(parameter.grad)

    def average_buffers(self, module: nn.Module) -> None:
        """Average the statistics of batch normalisation, which each process gathered from its own batches."""
        if self.count > 1:
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    self._mean(buffer)

    def agree(self, value: float) -> float:
        """The first process's value."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=_exchange_device())
        torch.distributed.broadcast(shared, 0)
        return float(shared)

    def _mean(self, tensor: Tensor) -> None:
        torch.distributed.all_reduce(tensor)
        tensor /= self.count


def join_processes(device: torch.device) -> Processes:
    """The group that ``torchrun`` announces in the environment, joined once; a group of one without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes()
    if not torch.distributed.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(torch.distributed.get_rank(), count)


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return int(os.environ.get("RANK", "0")) == 0


def _exchange_device() -> torch.device:
    """Where the backend of the group exchanges tensors."""
    return torch.device("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
