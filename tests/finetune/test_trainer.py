from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from featurestore.errors import FinetuneError, UsageError
from finetune.options import TrainerOptions
from finetune.trainer import Group, Stage, fork_rng, schedule_factor, shuffle_rows, train

N_ROWS, BATCH = 24, 6


class Regression:
    """A network with batch normalisation and dropout on random numbers; two stages, unless told otherwise."""

    def __init__(self, stages=(("top", 2), ("all", 3)), rate=0.05, scores=None, module=None):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(N_ROWS, 4, generator=generator)
        self.y = self.x.sum(dim=1, keepdim=True)
        if module is None:
            with torch.random.fork_rng():
                torch.manual_seed(1)
                module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
        self.module = module
        parts = {"top": module[-1].parameters(), "all": module.parameters()}
        self.stages = [Stage(name, epochs, [Group(name, list(parts[name]), rate)]) for name, epochs in stages]
        self.scores = None if scores is None else iter(scores)
        self.seen_dtypes = set()

    def batches(self, rng):
        return shuffle_rows(N_ROWS, BATCH, rng)

    def load(self, rows):
        return self.x[rows], self.y[rows]

    def losses(self, loaded):
        x, y = loaded
        out = self.module(x)
        self.seen_dtypes.add(out.dtype)
        return {"squares": ((out - y) ** 2).mean()}

    def score(self):
        if self.scores is not None:
            return next(self.scores)
        assert not self.module.training
        return -float(((self.module(self.x) - self.y) ** 2).mean())


def state(learner):
    return {name: tensor.clone() for name, tensor in learner.module.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def stop_after(n):
    def stop(row):
        if row["epoch"] == n:
            raise KeyboardInterrupt

    return stop


@pytest.fixture
def options():
    return TrainerOptions(device="cpu", patience=0)


# Resuming


@pytest.mark.parametrize("stopped_after", [1, 2, 3, 4])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_resumed_training_ends_at_the_same_bits(tmp_path, optimiser, stopped_after):
    options = TrainerOptions(device="cpu", optimiser=optimiser)
    whole, path = Regression(), tmp_path / "last.pt"
    expected = train(whole, options, seed=3)
    with pytest.raises(KeyboardInterrupt):
        train(Regression(), options, seed=3, checkpoint=path, on_epoch=stop_after(stopped_after))
    resumed = Regression()
    torch.manual_seed(99)  # whatever happened in the process before must not matter
    history = train(resumed, options, seed=3, checkpoint=path, resume=True)
    assert same(state(whole), state(resumed))
    assert history.drop(columns="seconds").equals(expected.drop(columns="seconds"))


def test_an_epoch_that_was_cut_short_is_done_again_as_a_whole(tmp_path, options):
    whole, path = Regression(), tmp_path / "last.pt"
    train(whole, options)

    def stop_in_the_third_epoch(done, _total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Regression(), options, checkpoint=path, progress=stop_in_the_third_epoch)
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    resumed = Regression()
    train(resumed, options, checkpoint=path, resume=True)
    assert same(state(whole), state(resumed))


def test_a_finished_training_is_not_trained_on(tmp_path, options):
    first, path = Regression(), tmp_path / "last.pt"
    train(first, options, checkpoint=path)
    again, steps = Regression(), []
    train(again, options, checkpoint=path, resume=True, progress=lambda done, total: steps.append((done, total)))
    assert same(state(first), state(again))
    assert steps == [(20, 20)]


def test_without_resume_a_checkpoint_is_not_looked_at(tmp_path, options):
    path = tmp_path / "last.pt"
    path.write_bytes(b"anything")
    train(Regression(), options, checkpoint=path)
    assert torch.load(path, weights_only=True)["history"][-1]["epoch"] == 5


def test_a_checkpoint_of_another_training_is_refused(tmp_path, options):
    path = tmp_path / "last.pt"
    train(Regression(), options, identity="these rows", checkpoint=path)
    with pytest.raises(FinetuneError, match="belongs to a training of other options, rows or model"):
        train(Regression(), options, identity="those rows", checkpoint=path, resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path, options):
    path = tmp_path / "last.pt"
    path.write_bytes(b"PK damaged")
    with pytest.raises(FinetuneError, match=r"the checkpoint cannot be read .*without --resume"):
        train(Regression(), options, checkpoint=path, resume=True)


def test_a_checkpoint_holds_no_parameter_that_is_never_trained(tmp_path, options):
    learner, path = Regression(stages=[("top", 1)]), tmp_path / "last.pt"
    train(learner, options, checkpoint=path)
    saved = torch.load(path, weights_only=True)["module"]
    assert {name for name in saved if name.startswith("0.")} == set()
    assert {name for name in saved if name.startswith("4.")} == {"4.weight", "4.bias"}


# Randomness


def test_the_seed_decides_everything(options):
    first, second, other = Regression(), Regression(), Regression()
    train(first, options, seed=1)
    torch.rand(5)
    train(second, options, seed=1)
    train(other, options, seed=2)
    assert same(state(first), state(second))
    assert not same(state(first), state(other))


def test_the_callers_random_numbers_go_on_undisturbed(options):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(Regression(), options)
    assert torch.equal(torch.rand(3), expected)


@given(st.integers(0, 200), st.integers(1, 40), st.integers(0, 9))
def test_shuffled_batches_hold_every_row_once_and_are_of_one_size(n_rows, batch_size, seed):
    batches = shuffle_rows(n_rows, batch_size, np.random.default_rng(seed))
    sizes = [len(batch) for batch in batches]
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(n_rows))
    assert len(batches) == math.ceil(n_rows / batch_size)
    assert not sizes or (max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1)


# Stages and schedule


def test_a_stage_changes_its_parameters_alone(options):
    learner = Regression(stages=[("top", 2)])
    before = state(learner)
    train(learner, options)
    after = state(learner)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"4.weight", "4.bias"}, "neither other weights nor batch statistics"


def test_the_next_stage_changes_the_others_too(options):
    learner = Regression()
    before = state(learner)
    history = train(learner, options)
    after = state(learner)
    assert not any(torch.equal(before[name], after[name]) for name in before)
    assert history["stage"].tolist() == ["top"] * 2 + ["all"] * 3
    assert history["rate:all"].notna().tolist() == [False] * 2 + [True] * 3


@pytest.mark.parametrize("n_warmup", [0, 3])
def test_the_cosine_is_that_of_torch(n_warmup):
    n_steps, parameter = 12, nn.Parameter(torch.zeros(1))
    optimiser = SGD([parameter], lr=1.0)
    cosine, expected = CosineAnnealingLR(optimiser, n_steps - n_warmup), []
    for _ in range(n_steps - n_warmup):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cosine.step()
    found = [schedule_factor(step, n_steps, n_warmup, "cosine") for step in range(n_warmup, n_steps)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_warmup_is_that_of_torch():
    optimiser = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    linear, expected = LinearLR(optimiser, start_factor=1 / 4, total_iters=3), []
    for _ in range(4):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        linear.step()
    np.testing.assert_allclose([schedule_factor(step, 9, 4, "constant") for step in range(4)], expected)


def test_the_history_states_the_highest_rate_of_an_epoch():
    options = TrainerOptions(device="cpu", schedule="constant", warmup=2, patience=0)
    history = train(Regression(stages=[("all", 3)], rate=0.08), options)
    np.testing.assert_allclose(history["rate:all"], [0.04, 0.08, 0.08])


def test_gradients_of_small_batches_add_up_to_those_of_a_large_one():
    def weights(accumulation, batch):
        learner = Regression(stages=[("all", 2)], module=nn.Sequential(nn.Linear(4, 1)))
        learner.batches = lambda rng: shuffle_rows(N_ROWS, batch, rng)
        with torch.no_grad():
            for parameter in learner.module.parameters():
                parameter.fill_(0.1)
        options = TrainerOptions(device="cpu", optimiser="sgd", accumulation=accumulation, clip=0, patience=0)
        train(learner, options)
        return learner.module[0].weight.detach().numpy()

    np.testing.assert_allclose(weights(3, 4), weights(1, 12), rtol=1e-5)


def test_clipping_bounds_a_step():
    learner = Regression(stages=[("all", 1)], rate=1.0, module=nn.Sequential(nn.Linear(4, 1)))
    learner.batches = lambda rng: [np.arange(N_ROWS)]
    before = state(learner)
    options = TrainerOptions(device="cpu", optimiser="sgd", momentum=0, warmup=0, clip=0.01, patience=0)
    train(learner, options)
    moved = sum(float(((tensor - before[name]) ** 2).sum()) for name, tensor in state(learner).items())
    assert math.sqrt(moved) == pytest.approx(0.01, rel=1e-3)


def test_precision_is_that_of_the_forward_pass():
    learner = Regression(stages=[("all", 1)])
    train(learner, TrainerOptions(device="cpu", precision="bf16"))
    assert learner.seen_dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in learner.module.parameters()} == {torch.float32}


# Stopping


def test_it_stops_when_the_score_no_longer_rises_and_keeps_the_best():
    weights = []
    learner = Regression(stages=[("all", 9)], scores=[0.1, 0.3, 0.2, 0.3, 0.1])
    options = TrainerOptions(device="cpu", patience=2)
    history = train(learner, options, on_epoch=lambda _: weights.append(state(learner)))
    assert len(history) == 4
    assert same(state(learner), weights[1])


def test_the_last_weights_are_kept_if_asked_for():
    weights = []
    learner = Regression(stages=[("all", 3)], scores=[0.3, 0.2, 0.1])
    train(learner, TrainerOptions(device="cpu", keep_best=False), on_epoch=lambda _: weights.append(state(learner)))
    assert same(state(learner), weights[-1])


def test_patience_begins_with_the_last_stage():
    learner = Regression(stages=[("top", 3), ("all", 5)], scores=[0.9] + [0.1] * 7)
    history = train(learner, TrainerOptions(device="cpu", patience=2))
    assert history["stage"].tolist() == ["top"] * 3 + ["all"] * 2


def test_without_a_score_it_neither_stops_nor_goes_back():
    weights = []
    learner = Regression(stages=[("all", 4)], scores=[math.nan] * 4)
    options = TrainerOptions(device="cpu", patience=1)
    history = train(learner, options, on_epoch=lambda _: weights.append(state(learner)))
    assert len(history) == 4
    assert same(state(learner), weights[-1])


def test_the_score_is_measured_as_often_as_asked_for_and_at_the_end():
    learner = Regression(stages=[("all", 5)], scores=[0.1, 0.2, 0.3])
    history = train(learner, TrainerOptions(device="cpu", score_every=2))
    assert history["score"].notna().tolist() == [False, True, False, True, True]


def test_an_early_stop_fills_the_progress_bar():
    learner = Regression(stages=[("all", 9)], scores=[0.2, 0.1, 0.1])
    steps = []
    train(learner, TrainerOptions(device="cpu", patience=1), progress=lambda *step: steps.append(step))
    assert steps[-2:] == [(8, 36), (36, 36)]


# Errors


def test_a_loss_that_is_not_finite_is_an_error_and_spares_the_checkpoint(tmp_path, options):
    learner, path = Regression(stages=[("all", 3)]), tmp_path / "last.pt"

    def spoil(_row):
        learner.y[:] = math.inf

    with pytest.raises(FinetuneError, match=r"the loss is not finite \[epoch 2\]"):
        train(learner, options, checkpoint=path, on_epoch=spoil)
    saved = torch.load(path, weights_only=True)["module"]
    assert all(tensor.isfinite().all() for tensor in saved.values())


def test_nothing_to_train_on_is_an_error(options):
    learner = Regression()
    learner.batches = lambda rng: []
    with pytest.raises(FinetuneError, match="there is nothing to train on"):
        train(learner, options)


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no GPU that torch can use"):
        train(Regression(), TrainerOptions(device="cuda"))


@pytest.mark.parametrize(("device", "expected"), [("cuda:1", [3]), ("xpu", [3]), ("mps", []), ("cpu", [])])
def test_only_the_random_numbers_of_the_own_device_are_kept(device, expected, monkeypatch):
    """A process that asked all GPUs for theirs would take memory of each."""
    seen = {}
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 3)
    monkeypatch.setattr(
        torch.random, "fork_rng", lambda devices, device_type="": seen.update(of=devices, on=device_type)
    )
    fork_rng(torch.device(device))
    assert seen == {"of": expected, "on": device.partition(":")[0] if expected else ""}
