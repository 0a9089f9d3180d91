"""The sweep of whitened heads against the same sweep of linear heads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks.embeddings import make_features
from benchmarks.row import Row, time_pairs
from benchmarks.sweep_cv import N_CLASSES, N_TRAIN, SEPARATION, D
from probes.sweep.sweep import sweep

PAIRS = 5


def measure() -> Iterator[Row]:
    """Whole sweeps: cross-validated `C`, the fit of all rows, the prediction of the test rows."""
    features = make_features(N_TRAIN, N_TRAIN // 4, D, N_CLASSES, separation=SEPARATION)
    for kind in ("pca", "zca"):
        times = time_pairs(
            partial(sweep, features, ["linear"]),
            partial(sweep, features, ["whitened"], options={"whitened": {"whitening": kind}}),
            PAIRS,
        )
        yield Row(
            f"whitened ({kind}), 12 heads, {N_TRAIN:,} x {D}, {N_CLASSES} classes, cv",
            "s",
            median(times.other),
            times.speedup,
            goal=1.3,
            at_most=True,
            peers={"linear": median(times.ours)},
            note="each training subset has its own whitening; the linear heads share one factorisation",
        )
