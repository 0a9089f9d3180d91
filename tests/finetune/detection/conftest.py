"""Detectors whose boxes miss by a known distance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finetune.detection.results import DetectionRun
from finetune.detection.targets import Detections, Scene


def _make(jitter, backbone="vit", mode="frozen", seed=0, **changes):
    """A detector whose boxes miss by so many pixels."""
    truth, rng = np.random.default_rng(1), np.random.default_rng(int(10 * jitter) + seed)
    corners = truth.uniform(0, 60, (12, 3, 2))
    boxes = np.concatenate([corners, corners + truth.uniform(10, 40, (12, 3, 2))], axis=2).astype(np.float32)
    labels = np.array([0, 1, 1])
    scenes = tuple(
        Scene(row, f"{row}.png", (100, 100), one, labels, np.zeros(3, bool), np.ones(3))
        for row, one in enumerate(boxes)
    )
    moved = boxes + np.tile(rng.normal(0, jitter, (12, 3, 2)), 2).astype(np.float32)
    found = tuple(Detections(one, labels, rng.uniform(0.1, 1, 3).astype(np.float32)) for one in moved)
    run = DetectionRun("radio", "resize=64", backbone, mode, "all", 100, seed, 7, ("a", "b"), scenes, found)
    return replace(run, **changes)


@pytest.fixture(scope="session")
def make_run():
    """``make_run(jitter, backbone, mode, seed, **changes)``: a run on twelve drawn scenes."""
    return _make
