"""Runs of which it is known how good they are, and what is stored beside them."""

from __future__ import annotations

import numpy as np
import pytest

from probes.advice.evidence import Evidence, Source, gather_lines
from probes.results import Run

N_TEST = 240
TRUTH = np.arange(N_TEST) % 3
PREPARED = {"stretch": "none", "crop": "none", "resize": 224, "interpolation": "bicubic", "decoder": "pillow"}
SIZES = {"dinov2-s": 22.1, "dinov2-b": 86.6, "resnet-50": 23.5}


def predict(wrong, seed):
    """Probabilities with so many wrong rows; those of a smaller number are among those of a larger one."""
    order = np.random.default_rng(3).permutation(N_TEST)
    off = np.roll(order, seed)[:wrong]
    predicted = TRUTH.copy()
    predicted[off] = (predicted[off] + 1) % 3
    return (np.eye(3)[predicted] * 0.8 + 0.2 / 3).astype(np.float32)


@pytest.fixture
def make_runs():
    """``make_runs(wrong=60, seeds=3, **fields)``: runs with so many wrong test rows of 240."""

    def make(wrong=60, seeds=3, **fields):
        given = {
            "dataset": "toy",
            "variant": "full-224",
            "backbone": "dinov2-s",
            "pooling": "cls",
            "scheme": "kind",
            "head": "linear",
            "protocol": "convex",
            "fraction": 100,
            "n_valid": 0,
            "n_features": 384,
            "classes": ("round", "bent", "double"),
            "sample_ids": tuple(f"s{row}" for row in range(N_TEST)),
            "truth": TRUTH,
            "seconds": 30.0,
        } | fields
        given = {"key": f"{given['backbone']}/{given['variant']}", "n_train": 8 * given["fraction"]} | given
        return [Run(seed=seed, probabilities=predict(wrong, seed), **given) for seed in range(seeds)]

    return make


@pytest.fixture
def make_evidence():
    """``make_evidence(runs, full-480={"resize": 480})``: the runs' backbones at each of their variants are stored."""

    def make(*runs, **prepared):
        every = [run for part in runs for run in part]
        lines, elsewhere = gather_lines(every)
        pairs = dict.fromkeys((run.backbone, run.variant) for run in every if not run.head.startswith("finetune:"))
        sources = [
            Source(
                key=f"{backbone}/{variant}",
                backbone=backbone,
                variant=variant,
                preprocessing=PREPARED | prepared.get(variant.replace("-", "_"), {}),
                patch=14 if backbone.startswith("dino") else None,
                params=SIZES.get(backbone, 0.0),
            )
            for backbone, variant in pairs
        ]
        return Evidence("my galaxies/", "kind", lines, tuple(sources), elsewhere)

    return make
