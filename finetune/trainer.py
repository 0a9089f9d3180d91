"""The training loop that classification and detection share: stages, schedule, early stopping, exact resume.

Order of the rows and random numbers of an epoch follow from seed and number of the epoch alone, so that a checkpoint
holds none of them: a training that was stopped and resumed ends at the bits of one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from featurestore.backbones.engines.base import resolve_runtime
from featurestore.backbones.engines.torch import forbid_tf32
from featurestore.errors import FinetuneError
from finetune.checkpoints import check_folder, read_checkpoint, write_checkpoint
from finetune.freezing import train_only
from finetune.options import TrainerOptions
from finetune.processes import Losses, is_first, join_processes, without_averaging

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

Row = dict[str, Any]
"""What is known of one epoch; see `train`."""

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Group:
    """Parameters that share a rate.

    Attributes:
        name: Of the column of the history that shows the rate; of groups that share it, that of the last one.
        parameters: The parameters.
        rate: Highest learning rate.
        weight_decay: Decoupled under AdamW, added to the gradient under SGD.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    rate: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Stage:
    """Epochs in which the same parameters are trained; all others are frozen, batch statistics included.

    Attributes:
        name: Shown in the history.
        epochs: How many, 1 or more.
        groups: What is trained. Each stage has a new optimiser, and a schedule of its own.
    """

    name: str
    epochs: int
    groups: Sequence[Group]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [parameter for group in self.groups for parameter in group.parameters]


class Learner(Protocol):
    """What is learnt, as the trainer sees it."""

    @property
    def module(self) -> nn.Module:
        """What is trained, in place; it is moved to the device."""
        ...

    @property
    def stages(self) -> Sequence[Stage]:
        """In their order; one or more."""
        ...

    def batches(self, rng: np.random.Generator) -> Sequence[Any]:
        """What each step of one epoch looks at, such as row numbers, in an order drawn from `rng`.

        There are as many in every epoch. See `shuffle_rows`.
        """
        ...

    def load(self, batch: Any) -> Any:
        """Read one of `batches`; called one batch ahead in another thread, so it must draw no random numbers."""
        ...

    def losses(self, loaded: Any) -> Mapping[str, Tensor]:
        """Scalar losses by name, whose sum is minimised; random numbers are those of torch's global generator.

        The module is in training mode, and what is loaded has to be moved to the device (`device_of`).
        """
        ...

    def score(self) -> float:
        """How good the module is, which is in eval mode: higher is better, NaN where there is nothing to measure on."""
        ...


def train(
    learner: Learner,
    options: TrainerOptions,
    seed: int = 0,
    *,
    identity: str = "",
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    on_epoch: Callable[[Row], None] | None = None,
) -> pd.DataFrame:
    """Train in place, and leave the module in eval mode, with its best weights or the last ones.

    Args:
        learner: What is learnt.
        options: How.
        seed: Seed of the order of the rows and of all random numbers; the caller's own generators are left alone.
        identity: Digest of whatever else decides the result; a checkpoint of another identity is refused.
        checkpoint: File that is replaced after each epoch, whole; an interrupt leaves that of the last whole epoch.
        resume: Whether to go on from the checkpoint, where there is one.
        progress: Called after each step.
        on_epoch: Called with the row of each epoch when it is over.

    Returns:
        One row an epoch: ``epoch`` (from 1), ``stage``, ``loss``, the mean of each loss, ``score`` (NaN where it was
        not measured), the highest ``rate:GROUP`` of the epoch, ``seconds``.

    Raises:
        FinetuneError: No batches, a loss that is not finite, or a checkpoint of another training.
        StoreWriteError: The checkpoint cannot be written.
    """
    training = _Training(learner, options, seed, identity)
    if checkpoint is not None and is_first():
        check_folder(checkpoint.parent)
    if checkpoint is not None and resume and checkpoint.exists():
        training.load(checkpoint)
    with fork_rng(training.device):
        while not training.finished:
            row = training.run_epoch(progress)
            if checkpoint is not None and is_first():
                training.save(checkpoint)
            if on_epoch:
                on_epoch(row)
    training.conclude()
    if progress:
        progress(training.n_steps, training.n_steps)  # early stopping leaves steps undone
    return pd.DataFrame(training.history)


def shuffle_rows(n_rows: int, batch_size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """The rows 0 ... n_rows - 1 in random order, int64, in as few batches of at most `batch_size` as hold them.

    Their sizes differ by one at most: batch normalisation would suffer from a last batch of a few rows.
    """
    return np.array_split(rng.permutation(n_rows), -(-n_rows // batch_size)) if n_rows else []


def fork_rng(device: torch.device) -> AbstractContextManager[None]:
    """Leave the caller's random numbers alone: those of the CPU, and of the one GPU that is used."""
    if device.type in ("cpu", "mps"):
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng([torch.accelerator.current_device_index()], device_type=device.type)


def device_of(module: nn.Module) -> torch.device:
    """The device that a module's parameters are on."""
    return next(module.parameters()).device


def schedule_factor(step: int, n_steps: int, n_warmup: int, schedule: str) -> float:
    """The learning rate of a step, counted from 0, as a share of the highest one.

    It rises linearly over the first `n_warmup` steps, then stays (``constant``) or falls to zero along half a cosine.
    Source: Loshchilov & Hutter 2017, SGDR, ICLR, equation 5, without restarts.
    """
    if step < n_warmup:
        return (step + 1) / n_warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup)))


class _Training:
    """A training between two epochs: all that a checkpoint holds, and what can be made anew from the options."""

    def __init__(self, learner: Learner, options: TrainerOptions, seed: int, identity: str) -> None:
        self.learner, self.options, self.seed, self.identity = learner, options, seed, identity
        runtime = resolve_runtime("torch", options.device, options.precision)
        self.device, self.dtype = torch.device(runtime.device), _AUTOCAST.get(runtime.precision)
        if self.device.type == "cuda" and self.dtype is None:
            forbid_tf32()
        self.processes = join_processes(self.device)
        self.module = learner.module.to(self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.steps = self._updates_per_epoch()
        self.trained = _trained_names(self.module, learner.stages)
        self.history: list[Row] = []
        self.best: dict[str, Tensor] = {}
        self.stage: Stage | None = None
        self.optimiser: Optimizer
        self.losses: Losses = learner.losses

    @property
    def n_epochs(self) -> int:
        return sum(stage.epochs for stage in self.learner.stages)

    @property
    def n_steps(self) -> int:
        return self.n_epochs * self.steps

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest score; 0 if none was measured."""
        measured = [row for row in self.history if not math.isnan(row["score"])]
        return int(max(measured, key=lambda row: float(row["score"]))["epoch"]) if measured else 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the score has not risen for `patience` epochs of the last stage."""
        done, before_last = len(self.history), self.n_epochs - self.learner.stages[-1].epochs
        waited = done - max(self.best_epoch, before_last)
        gives_up = 0 < self.options.patience <= waited and self.best_epoch > 0
        return done >= self.n_epochs or gives_up

    def run_epoch(self, progress: Progress | None) -> Row:
        started, epoch = perf_counter(), len(self.history) + 1
        stage, before = self._stage_of(epoch)
        self._enter(stage)
        train_only(self.module)
        torch.manual_seed(_generator(self.seed, epoch, self.processes.rank + 1).integers(2**63))
        batches = self.processes.share(self.learner.batches(_generator(self.seed, epoch)))
        losses, rates, loaded = [], dict[str, float](), _read_ahead(self.learner.load, batches)
        for step in range(self.steps):
            rates = _highest(rates, self._set_rates(stage, step + before * self.steps))
            size = min(self.options.accumulation, len(batches) - step * self.options.accumulation)
            losses += [self._backward(next(loaded), size, last=part == size) for part in range(1, size + 1)]
            self._update(stage)
            if progress:
                progress((epoch - 1) * self.steps + step + 1, self.n_steps)
        row = {"epoch": epoch, "stage": stage.name} | self._mean(losses, epoch) | {"score": self._score(epoch)}
        row |= rates | {"seconds": perf_counter() - started}
        self.history.append(row)
        if self.options.keep_best and self.best_epoch == epoch:
            self.best = {name: tensor.clone() for name, tensor in self._state().items()}
        return row

    def conclude(self) -> None:
        """The best weights, in eval mode."""
        if self.best:
            self.module.load_state_dict(self.best, strict=False)
        self.module.eval()

    def save(self, path: Path) -> None:
        state = {
            "identity": self.identity,
            "history": self.history,
            "module": self._state(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        write_checkpoint(path, state, len(self.history))

    def load(self, path: Path) -> None:
        state = read_checkpoint(path, self.device)
        if state["identity"] != self.identity or state["module"].keys() != self._state().keys():
            raise FinetuneError(
                "the checkpoint belongs to a training of other options, rows or model (weights, boxes, labels)",
                where=path,
                hint="Give those that it was started with; or delete it; or start without --resume.",
            )
        self.module.load_state_dict(state["module"], strict=False)
        self.history, self.best = state["history"], state["best"]
        self._enter(self._stage_of(len(self.history))[0])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])

    def _updates_per_epoch(self) -> int:
        n_batches = len(self.processes.share(self.learner.batches(_generator(self.seed, 0))))
        if not n_batches:
            raise FinetuneError(
                "there is nothing to train on", where="batches", hint="Label more rows, or use smaller batches."
            )
        return -(-n_batches // self.options.accumulation)

    def _stage_of(self, epoch: int) -> tuple[Stage, int]:
        """The stage of an epoch, and how many epochs of that stage come before it."""
        before = epoch - 1
        for stage in self.learner.stages:
            if before < stage.epochs:
                return stage, before
            before -= stage.epochs
        raise IndexError(epoch)

    def _enter(self, stage: Stage) -> None:
        """Train the stage's parameters alone, by an optimiser without a past."""
        if self.stage is stage:
            return
        self.stage = stage
        self.module.requires_grad_(False)
        for parameter in stage.parameters:
            parameter.requires_grad_(True)
        self.optimiser = _make_optimiser(stage, self.options)
        self.losses = self.processes.connect(self.module, self.learner.losses)

    def _set_rates(self, stage: Stage, step: int) -> dict[str, float]:
        n_warmup = round(self.options.warmup * self.steps)
        factor = schedule_factor(step, stage.epochs * self.steps, n_warmup, self.options.schedule)
        for group, settings in zip(stage.groups, self.optimiser.param_groups, strict=True):
            settings["lr"] = group.rate * factor
        return {f"rate:{group.name}": group.rate * factor for group in stage.groups}

    def _backward(self, loaded: Any, size: int, *, last: bool) -> dict[str, Tensor]:
        """Add the gradients of one batch out of `size` that make a step together."""
        with nullcontext() if last else without_averaging(self.losses):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                losses = self.losses(loaded)
            total = torch.stack(list(losses.values())).sum()
            self.scaler.scale(total / size).backward()  # type: ignore[no-untyped-call]
        return {"loss": total.detach()} | {name: loss.detach() for name, loss in losses.items()}

    def _update(self, stage: Stage) -> None:
        if self.options.clip:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(stage.parameters, self.options.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad()

    def _mean(self, losses: Sequence[Mapping[str, Tensor]], epoch: int) -> dict[str, float]:
        means = {name: float(torch.stack([one[name] for one in losses]).double().mean()) for name in losses[0]}
        if not all(map(math.isfinite, means.values())):
            raise FinetuneError(
                "the loss is not finite",
                where=f"epoch {epoch}",
                hint="Lower the learning rates or the clipping, or use --precision fp32; then resume.",
            )
        return means

    def _score(self, epoch: int) -> float:
        if epoch % self.options.score_every and epoch != self.n_epochs:
            return math.nan
        self.module.eval()
        with torch.no_grad():
            return self.processes.agree(self.learner.score())

    def _state(self) -> dict[str, Tensor]:
        """What training changes: the parameters of all stages, and buffers."""
        return {name: tensor for name, tensor in self.module.state_dict().items() if name in self.trained}


def _trained_names(module: nn.Module, stages: Sequence[Stage]) -> set[str]:
    trained = {id(parameter) for stage in stages for parameter in stage.parameters}
    names = {name for name, parameter in module.named_parameters() if id(parameter) in trained}
    return names | {name for name, _ in module.named_buffers()}


def _make_optimiser(stage: Stage, options: TrainerOptions) -> Optimizer:
    groups = [
        {"params": list(group.parameters), "lr": group.rate, "weight_decay": group.weight_decay}
        for group in stage.groups
    ]
    if options.optimiser == "sgd":
        return SGD(groups, momentum=options.momentum, nesterov=options.momentum > 0)
    return AdamW(groups)


def _generator(*seeds: int) -> np.random.Generator:
    return np.random.default_rng(seeds)


def _highest(rates: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    return {name: max(rate, rates.get(name, 0.0)) for name, rate in more.items()}


def _read_ahead(load: Callable[[Any], Any], batches: Sequence[Any]) -> Iterator[Any]:
    """What is loaded of each batch, one batch ahead of the one in use."""
    with ThreadPoolExecutor(1, "loader") as pool:
        waiting = pool.submit(load, batches[0])
        for following in batches[1:]:
            loaded, waiting = waiting.result(), pool.submit(load, following)
            yield loaded
        yield waiting.result()
