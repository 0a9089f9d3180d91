"""The study's sweep of linear heads by plain SGD, against the plain PyTorch loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.embeddings import make_features
from benchmarks.plain_loop import PlainHead, choose_threads, compare_head
from benchmarks.row import Row, time_pairs
from featurestore.store.features import FeatureSet
from probes.sweep.plan import plan
from probes.sweep.sweep import fit_many
from probes.sweep.tasks import Task

N_TRAIN, N_TEST, D = 8_000, 2_000, 768
SEEDS = 3
PLAIN_EPOCHS = 5
"""Epochs of the plain loop that are timed; its time is in proportion to epochs."""

GOAL = 50


@dataclass(frozen=True)
class Case:
    """One sweep: 4 fractions x 3 seeds at each learning rate."""

    what: str
    n_classes: int
    epochs: int
    class_weight: str | None
    rates: tuple[float, ...] = (5e-4,)
    pairs: int = 5

    def plan(self, features: FeatureSet) -> list[Task]:
        """The heads, by learning rate, fraction and seed."""
        shared = {"epochs": self.epochs, "class_weight": self.class_weight}
        options = [{"linear": {**shared, "learning_rate": rate}} for rate in self.rates]
        return [
            t for given in options for t in plan(features, ["linear"], protocol="paper", seeds=SEEDS, options=given)
        ]


CASES = (
    Case("12 linear heads, 100 epochs, 4 classes", 4, 100, None),
    Case("12 linear heads, 200 epochs, 6 classes, class weights", 6, 200, "balanced"),
    Case(
        "96 linear heads: 8 learning rates, 100 epochs, 4 classes",
        4,
        100,
        None,
        (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2),
        3,
    ),
)


def measure() -> Iterator[Row]:
    """From features to predictions of the test rows; of the plain loop the training alone."""
    for case in CASES:
        yield _measure_case(case)


def _measure_case(case: Case) -> Row:
    features = make_features(N_TRAIN, N_TEST, D, case.n_classes)
    tasks = case.plan(features)
    heads = [PlainHead(features, task) for task in tasks[: len(tasks) // len(case.rates) : SEEDS]]
    threads = choose_threads(heads[0])
    times = time_pairs(
        lambda: fit_many(features, case.plan(features)),
        lambda: [head.train(PLAIN_EPOCHS) for head in heads],
        case.pairs,
    )
    scale = case.epochs / PLAIN_EPOCHS * SEEDS * len(case.rates)
    ours = median(times.ours)
    return Row(
        what=f"sweep, paper, {case.what}, {N_TRAIN:,} x {D}",
        unit="s",
        ours=ours,
        ratio=times.speedup * scale,
        goal=GOAL,
        peers={"PyTorch DataLoader loop": median(times.other) * scale},
        note=f"loop on {threads} thread(s), timed for one seed, one rate and {PLAIN_EPOCHS} epochs and scaled; "
        + compare_head(features, tasks[0]),
    )
