"""Processes on a CPU; nothing here says anything of GPUs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from finetune.options import TrainerOptions
from finetune.processes import Processes, is_first
from finetune.trainer import Group, Stage, shuffle_rows, train

N_ROWS, BATCH = 24, 4


class Linear:
    def __init__(self, fill):
        self.x = torch.arange(N_ROWS * 3.0).reshape(N_ROWS, 3).sin()
        self.module = nn.Sequential(nn.Linear(3, 1))
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.fill_(fill)
        self.stages = [Stage("all", 2, [Group("all", list(self.module.parameters()), 0.1)])]

    def batches(self, rng):
        return shuffle_rows(N_ROWS, BATCH, rng)

    def load(self, rows):
        return self.x[rows]

    def losses(self, x):
        return {"squares": ((self.module(x)[:, 0] - x.sum(dim=1)) ** 2).mean()}

    def score(self):
        return float("nan")


def tune(fill, accumulation):
    learner = Linear(fill)
    train(learner, TrainerOptions(device="cpu", optimiser="sgd", accumulation=accumulation), seed=4)
    return torch.cat([parameter.detach().flatten() for parameter in learner.module.parameters()])


def test_two_processes_do_what_one_does_with_two_batches_a_step(tmp_path):
    """The second process starts from other weights: those of the first count."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, __file__, str(tmp_path)], check=True, capture_output=True, timeout=300)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0], tune(0.1, accumulation=2))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_are_shared_without_overlap_and_evenly(count):
    shares = [Processes(rank, count).share(range(8)) for rank in range(count)]
    together = sorted(batch for share in shares for batch in share)
    assert together == list(range(8 // count * count))
    assert len({len(share) for share in shares}) == 1


def test_a_single_process_changes_nothing():
    module, alone = nn.BatchNorm1d(2), Processes()
    module.weight.grad = torch.tensor([1.0, 2.0])
    alone.spread(module)
    alone.average(module.parameters())
    alone.average_buffers(module)
    assert module.weight.grad.tolist() == [1.0, 2.0]
    assert module.bias.grad is None
    assert alone.agree(0.5) == 0.5
    assert is_first()


def test_other_processes_write_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not is_first()


if __name__ == "__main__":
    import os

    rank = int(os.environ["RANK"])
    torch.save(tune(0.1 + rank, accumulation=1), f"{sys.argv[1]}/{rank}.pt")
