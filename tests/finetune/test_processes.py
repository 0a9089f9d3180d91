"""Processes on a CPU; nothing here says anything of GPUs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from finetune.options import TrainerOptions
from finetune.processes import Processes, describe_processes, is_first, without_averaging
from finetune.trainer import Group, Stage, shuffle_rows, train

N_ROWS, BATCH = 24, 4


class Regression:
    """Two stages; in the second, half of the batches do not need the first layer."""

    def __init__(self, fill):
        self.x = torch.arange(N_ROWS * 3.0).reshape(N_ROWS, 3).sin()
        self.module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        with torch.no_grad():
            for number, parameter in enumerate(self.module.parameters()):
                parameter.copy_(
                    fill + torch.arange(parameter.numel()).reshape(parameter.shape).sin() * (number + 1) / 9
                )
        top, every = (list(part.parameters()) for part in (self.module[2], self.module))
        self.stages = [Stage("top", 1, [Group("top", top, 0.1)]), Stage("all", 2, [Group("all", every, 0.1)])]

    def batches(self, rng):
        return shuffle_rows(N_ROWS, BATCH, rng)

    def load(self, rows):
        return self.x[rows]

    def losses(self, x):
        out = self.module(x) if x[0, 0] > 0 else self.module[2](x)
        return {"squares": ((out[:, 0] - x.sum(dim=1)) ** 2).mean()}

    def score(self):
        return float("nan")


def tune(fill, accumulation, **given):
    learner = Regression(fill)
    options = TrainerOptions(device="cpu", optimiser="sgd", accumulation=accumulation)
    train(learner, options, seed=4, **given)
    return torch.cat([parameter.detach().flatten() for parameter in learner.module.parameters()])


def start(n, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n), __file__]
    done = subprocess.run([*command, *map(str, arguments)], check=False, capture_output=True, timeout=300, text=True)
    assert done.returncode == 0, done.stderr


def test_two_processes_do_what_one_does_with_twice_as_many_batches_a_step(tmp_path):
    """The second process starts from other weights: those of the first count."""
    start(2, tmp_path, 2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0], tune(0.1, accumulation=4))


def test_three_processes_resume_to_the_same_bits(tmp_path):
    """Sums of three gradients depend on their order, which must not change within a training."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    start(3, whole, 1)
    start(3, broken, 1, "stop")
    start(3, broken, 1)
    found = [torch.load(folder / f"{rank}.pt") for folder in (whole, broken) for rank in range(3)]
    assert all(torch.equal(found[0], one) for one in found)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_are_shared_without_overlap_and_evenly(count):
    shares = [Processes(rank, count).share(range(8)) for rank in range(count)]
    together = sorted(batch for share in shares for batch in share)
    assert together == list(range(8 // count * count))
    assert len({len(share) for share in shares}) == 1


def test_a_single_process_changes_nothing():
    learner, alone = Regression(0.1), Processes()
    losses = alone.connect(learner.module, learner.losses)
    assert losses == learner.losses
    with without_averaging(losses):
        pass
    assert alone.agree(0.5) == 0.5
    assert is_first()


def test_other_processes_write_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not is_first()


def test_identities_tell_the_number_of_processes(monkeypatch):
    assert describe_processes() == {}
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert describe_processes() == {}
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert describe_processes() == {"processes": 3}


def _stop(row):
    if row["epoch"] == 2:
        raise KeyboardInterrupt


def _main(folder, accumulation, stop=""):
    """What each process does: its weights at the end are in a file of its own."""
    import os

    rank = int(os.environ["RANK"])
    given = {"checkpoint": Path(folder) / "last.pt", "resume": True, "on_epoch": _stop if stop else None}
    try:
        weights = tune(0.1 + rank, int(accumulation), **given)
    except KeyboardInterrupt:
        return
    torch.save(weights, Path(folder) / f"{rank}.pt")


if __name__ == "__main__":
    _main(*sys.argv[1:])
