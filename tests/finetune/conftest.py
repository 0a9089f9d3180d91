"""Small skies in memory: images of one or two sources, whose number is the class, and what to train on them."""

from __future__ import annotations

import hashlib
from collections import Counter
from importlib.metadata import EntryPoint
from threading import Lock

import numpy as np
import pytest

from featurestore.backbones.catalogue import ADAPTERS
from featurestore.datasets.base import Sample
from featurestore.errors import UnreadableImageError
from featurestore.samples import Boxes, SampleTable
from finetune.data.images import load_images
from finetune.data.rows import usable_rows
from finetune.options import FinetuneOptions, TrainerOptions

SIDE = 32
VARIANT = f"resize={SIDE}"


def draw_sky(rng, n_sources):
    """A grey uint8 image with noise and round sources of three pixels' width."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = rng.normal(30, 4, size=(SIDE, SIDE))
    for place in ((10, 10), (22, 20))[:n_sources]:
        cy, cx = np.array(place) + rng.integers(-2, 3, size=2)
        image += 200 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18)
    return image.clip(0, 255).astype(np.uint8)


class Sky:
    """Images in memory, with a count of how often each was decoded."""

    decoder = "array"

    def __init__(self, splits, *, seed=0, broken=(), **columns):
        rng, n = np.random.default_rng(seed), len(splits)
        labels = np.arange(n) % 2
        self.images = [draw_sky(rng, 1 + label) for label in labels]
        self.broken, self.decoded, self._lock = set(broken), Counter(), Lock()
        known = {
            "name": "sky",
            "sample_ids": tuple(f"s{row:03d}" for row in range(n)),
            "labels": {"sources": labels},
            "classes": {"sources": ("one", "two")},
            "splits": np.array(splits),
            "fingerprints": np.arange(n).astype(np.uint64) + np.uint64(seed),
            "source": "made up",
        }
        self.table = SampleTable(**known | columns)

    def __len__(self):
        return len(self.images)

    def read(self, row):
        with self._lock:
            self.decoded[row] += 1
        if row in self.broken:
            raise UnreadableImageError("the file is truncated", where=row, hint="Copy it again.")
        image = self.images[row]
        return Sample(image, hashlib.blake2b(image.tobytes(), digest_size=16).digest())


@pytest.fixture
def make_sky():
    """``make_sky(train=24, valid=8, test=8, ...)``: rows of each split in this order, classes alternating."""

    def make(train=24, valid=8, test=8, **options):
        return Sky(["train"] * train + ["valid"] * valid + ["test"] * test, **options)

    return make


@pytest.fixture
def make_sky_images(make_sky):
    """Images of a sky, all kept."""

    def make(variant=VARIANT, dataset=None, memory=2**24, **options):
        dataset = dataset or make_sky(**options)
        return load_images(dataset, variant, usable_rows(dataset.table), memory)

    return make


@pytest.fixture
def make_boxes():
    def make(n, xyxy=(4.0, 4.0, 20.0, 20.0)):
        rows = np.arange(n)
        return Boxes(rows, np.tile(np.float32(xyxy), (n, 1)), np.zeros(n, np.int64), np.zeros(n, bool))

    return make


@pytest.fixture
def quick():
    """Options of a training of seconds: ``quick("full", epochs=3)``."""

    def make(mode="full", *, trainer=None, **given):
        known = {"epochs": 3, "head_epochs": 1, "batch_size": 8, "lora_rank": 2, "lora_share": 0.5}
        return FinetuneOptions(mode, trainer=trainer or TrainerOptions(device="cpu"), **known | given)

    return make


@pytest.fixture
def tuned_adapter(monkeypatch):
    """The adapter ``tuned`` under its name, whether or not the installed metadata has the entry."""
    entry = EntryPoint("tuned", "finetune.tuned:ADAPTER", "skyprobe.adapters")
    monkeypatch.setitem(ADAPTERS._entries, "tuned", entry)
