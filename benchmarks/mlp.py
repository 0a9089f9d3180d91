"""Twelve MLPs by plain SGD, against the plain PyTorch loop."""

from __future__ import annotations

from collections.abc import Iterator
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
EPOCHS, PLAIN_EPOCHS = 20, 5
"""Epochs of ours and of the plain loop that are timed; the loop's time is in proportion to epochs."""

FULL_EPOCHS = 100
"""Epochs of the head that is trained in full both ways."""

GOALS = {768: 2, 128: 4}
"""Hidden width -> goal."""


def measure() -> Iterator[Row]:
    """From features to predictions of the test rows; of the plain loop the training alone."""
    features = make_features(N_TRAIN, N_TEST, D, 4)
    for hidden in GOALS:
        yield _measure_width(features, hidden)


def _measure_width(features: FeatureSet, hidden: int) -> Row:
    tasks = _plan(features, hidden, EPOCHS)
    heads = [PlainHead(features, task, [hidden]) for task in tasks[::SEEDS]]
    threads = choose_threads(heads[0])
    times = time_pairs(
        lambda: fit_many(features, _plan(features, hidden, EPOCHS)),
        lambda: [head.train(PLAIN_EPOCHS) for head in heads],
        pairs=5,
    )
    scale = EPOCHS / PLAIN_EPOCHS * SEEDS
    in_full = _plan(features, hidden, FULL_EPOCHS)[0]
    return Row(
        what=f"sweep, paper, 12 MLPs of hidden {hidden}, {EPOCHS} epochs, {N_TRAIN:,} x {D}",
        unit="s",
        ours=median(times.ours),
        ratio=times.speedup * scale,
        goal=GOALS[hidden],
        peers={"PyTorch DataLoader loop": median(times.other) * scale},
        note=f"loop on {threads} thread(s), timed for one seed and {PLAIN_EPOCHS} epochs and scaled; "
        + compare_head(features, in_full, [hidden]),
    )


def _plan(features: FeatureSet, hidden: int, epochs: int) -> list[Task]:
    options = {"mlp": {"hidden": hidden, "epochs": epochs}}
    return plan(features, ["mlp"], protocol="paper", seeds=SEEDS, options=options)
