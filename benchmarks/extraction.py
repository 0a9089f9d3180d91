"""Extraction from PNG files to stored features, against timm with a DataLoader: the script that most people write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks.row import Row, compare
from featurestore.backbones.weights import seeded
from featurestore.datasets import open_dataset
from featurestore.extraction import extract_features
from featurestore.planning import ExtractionOptions
from featurestore.store import open_store

N_IMAGES, SIDE, BATCH = 400, 300, 64
MODEL = "resnet18"


def measure() -> Iterator[Row]:
    """One backbone, then two variants of one decode; exact fp32, model loading included on both sides."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        images = _write_images(folder / "images")
        for variants in (["full-224"], ["full-224", "center-224"]):
            yield compare(
                f"PNG {SIDE} px -> {MODEL}, {len(variants)} variant(s), start to end",
                lambda variants=variants: _extract(images, folder, variants),  # type: ignore[misc]
                lambda variants=variants: [_loop(images) for _ in variants],  # type: ignore[misc]
                against=f"timm + DataLoader, batch {BATCH}, once a variant",
                amount=N_IMAGES * len(variants),
                unit="images/s",
                pairs=3,
            )


def _write_images(folder: Path) -> Path:
    """Smooth noise in one class folder: PNG files of a realistic size."""
    (folder / "all").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(N_IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / "all" / f"{number:04d}.png")
    return folder


def _extract(images: Path, folder: Path, variants: list[str]) -> None:
    options = ExtractionOptions(weights="random:0")
    with TemporaryDirectory(dir=folder) as place:
        store = open_store(f"{place}/store.zarr", mode="a")
        extract_features(open_dataset(f"image_folder:{images}"), [f"timm:{MODEL}"], variants, store, options)


def _loop(images: Path) -> np.ndarray:
    with seeded(0):
        model = timm.create_model(MODEL, num_classes=0).eval()
    dataset = ImageFolder(str(images), create_transform((3, 224, 224), interpolation="bicubic", crop_pct=1.0))
    with torch.inference_mode():
        return np.concatenate([model(batch).numpy() for batch, _ in DataLoader(dataset, batch_size=BATCH)])
