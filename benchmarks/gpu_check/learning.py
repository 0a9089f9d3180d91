"""Steps that learn: the probes' solver on CuPy, and fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu_check.outcome import Figure
from benchmarks.gpu_check.setting import Setting, Skipped
from benchmarks.row import seconds
from featurestore.datasets import open_dataset
from finetune.data.images import Images, load_images
from finetune.data.rows import usable_rows
from finetune.learners.classification import Task, Tuned, plan_fit, run_fit
from finetune.options import FinetuneOptions, TrainerOptions
from finetune.trainer import Row
from probes.heads.linear import LinearProbe
from probes.solvers import backend

COEFFICIENTS = 1e-3
EPOCHS, STOP_AFTER = 5, 2


def check_solver(setting: Setting) -> Iterator[Figure]:
    """Linear heads by CuPy against NumPy."""
    if not backend.has_gpu():
        raise Skipped("CuPy is not installed, or finds no device")
    heads, rows, width = (12, 8000, 768) if setting.is_gpu else (1, 100, 8)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, rows)
    X = (rng.normal(size=(rows, width)) + np.eye(4, width)[y]).astype(np.float32)

    def fit() -> list[NDArray[np.floating]]:
        return [LinearProbe(random_state=seed).fit(X, y).coef_ for seed in range(heads)]

    on_gpu = fit()
    seconds_gpu = seconds(fit)
    answer, backend.has_gpu = backend.has_gpu, lambda: False  # type: ignore[assignment]
    try:
        on_cpu = fit()
        seconds_cpu = seconds(fit)
    finally:
        backend.has_gpu = answer
    pairs = zip(on_gpu, on_cpu, strict=True)
    difference = max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs)
    yield Figure("coefficients, relative difference", difference, COEFFICIENTS, at_most=True)
    yield Figure("times as fast as NumPy", seconds_cpu / seconds_gpu, 1.0 if setting.is_gpu else None)


def check_training(setting: Setting) -> Iterator[Figure]:
    """The loss falls, and a training that was stopped ends at the weights of one that was not."""
    dataset = open_dataset(f"image_folder:{_two_classes(setting)}")
    images = load_images(dataset, f"resize={setting.scale.side}", usable_rows(dataset.table), 2**30)
    name = setting.scale.networks[-1]
    for mode in ("full", "lora"):
        options = FinetuneOptions(
            mode=mode,
            epochs=EPOCHS,
            head_epochs=1,
            batch_size=8,
            trainer=TrainerOptions(device=setting.device, precision="fp32", patience=0, warmup=0.0, keep_best=False),
        )
        task = Task(name, options, weights="random:0")
        whole = run_fit(plan_fit(images, task))
        losses = whole.history["loss"].to_numpy()
        yield Figure(f"{mode}: loss of the last epoch over the first", float(losses[-1] / losses[0]), 1.0, at_most=True)
        resumed = _stop_and_resume(setting, images, task)
        yield Figure(f"{mode}: resumed is straight", _equal(whole, resumed), limit=True)


def _stop_and_resume(setting: Setting, images: Images, task: Task) -> Tuned:
    path = setting.folder / f"{task.options.mode}.pt"

    def stop(row: Row) -> None:
        if row["epoch"] == STOP_AFTER:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        run_fit(plan_fit(images, task), checkpoint=path, on_epoch=stop)
    return run_fit(plan_fit(images, task), checkpoint=path, resume=True)


def _equal(one: Tuned, other: Tuned) -> bool:
    mine, theirs = one.classifier.state_dict(), other.classifier.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def _two_classes(setting: Setting) -> Path:
    """Bright and dark noise, in two folders of each split."""
    from PIL import Image

    place, rng, side = setting.folder / "classes", np.random.default_rng(0), setting.scale.side
    for split, count in (("train", 16), ("valid", 8), ("test", 8)):
        for label, base in (("bright", 120), ("dark", 20)):
            target = place / split / label
            target.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                noise = rng.integers(base, base + 100, (side, side, 3), dtype=np.uint8)
                Image.fromarray(noise).save(target / f"{number}.png")
    return place
