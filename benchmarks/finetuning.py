"""Fine-tuning on real radio galaxies: modes of training, each against the head alone, on the test rows of `first`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.row import Row
from featurestore.datasets import open_dataset
from featurestore.datasets.base import ImageDataset
from finetune.data.images import load_images
from finetune.data.rows import usable_rows
from finetune.learners.classification import Task, plan_fit, run_fit
from finetune.options import FinetuneOptions, TrainerOptions
from probes.results.run import Run
from probes.statistics.bootstrap import bootstrap_difference

BACKBONE, SIDE = "efficientnet-lite0", 128
WHOLE, CROP = f"resize={SIDE}", f"resize={SIDE},crop=center:0.5"

CASES = {
    "head": ("head", WHOLE),
    "lora": ("lora", WHOLE),
    "top:2": ("top:2", WHOLE),
    "full": ("full", WHOLE),
    "crop + full": ("full", CROP),
}
"""Name -> mode and preprocessing."""


@dataclass(frozen=True)
class Budget:
    """How much is trained; small, for the sake of the CPU.

    Attributes:
        epochs: Of every training.
        head_epochs: Of the head alone, where it comes first.
    """

    epochs: int = 5
    head_epochs: int = 1

    def options(self, mode: str) -> FinetuneOptions:
        """Options of one training."""
        trainer = TrainerOptions(device="cpu", patience=0)
        return FinetuneOptions(mode, epochs=self.epochs, head_epochs=self.head_epochs, trainer=trainer)


def measure(budget: Budget | None = None) -> Iterator[Row]:
    """Macro-F1 on the test rows, one seed and all training labels; the interval is over test rows."""
    dataset, budget = open_dataset("first"), budget or Budget()
    head: Run | None = None
    for name, (mode, variant) in CASES.items():
        run = _train(dataset, variant, budget.options(mode))
        head = head or run
        difference = bootstrap_difference(run.truth, head.predicted, run.predicted)
        yield Row(
            what=f"fine-tuning, {name}, {run.n_train} images of {SIDE} px, {budget.epochs} epochs",
            unit="macro-F1",
            ours=run.scores.macro["f1"],
            ratio=difference.value,
            peers={} if run is head else {"head": head.scores.macro["f1"]},
            note=f"difference to head {difference.value:+.3f}, {difference.confidence:.0%} interval "
            f"[{difference.low:+.3f}, {difference.high:+.3f}] over {len(run.truth)} test images; "
            f"{run.params['trained_share']:.1%} of the parameters trained, {run.seconds:.0f} s",
        )


def _train(dataset: ImageDataset, variant: str, options: FinetuneOptions) -> Run:
    images = load_images(dataset, variant, usable_rows(dataset.table), options.memory)
    return run_fit(plan_fit(images, Task(BACKBONE, options))).run
