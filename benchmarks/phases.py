"""The phases of an extraction, each measured alone with one thread a processor: everything, reading, forwarding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.row import seconds
from featurestore.backbones.engines.base import Forward, compile_forward, resolve_runtime
from featurestore.backbones.engines.torch import one_thread
from featurestore.backbones.loading import load_backbone
from featurestore.datasets import open_dataset
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.preprocessing import VARIANTS
from featurestore.store import open_store

VARIANT = "full-224"
BATCH_SIZES = (2, 4, 8, 16)
ENGINES = {"fp32": ("openvino", "torch"), "bf16": ("openvino",)}
WORKERS = ExtractionOptions().worker_count


def extract_seconds(
    folder: Path, backbones: Sequence[str], variants: Sequence[str] = (VARIANT,), precision: str = "fp32"
) -> float:
    """Seconds from the files of a folder to a fresh store; loading the models is left out."""
    dataset, options = (
        open_dataset(f"image_folder:{folder}"),
        ExtractionOptions(weights="random:0", precision=precision),
    )
    with TemporaryDirectory(dir=folder.parent) as place:
        store = open_store(f"{place}/store.zarr", mode="a")
        report = extract_features(dataset, backbones, variants, store, options)
    return report.seconds - report.costs.load


def read_seconds(folder: Path, images: int) -> float:
    """Seconds to read, decode and preprocess the files of a folder."""
    dataset, preprocessing = open_dataset(f"image_folder:{folder}"), VARIANTS[VARIANT]
    boxes = np.empty((0, 4), np.float32)
    return _wall(lambda row: preprocessing.render(dataset.read(row).image, boxes), range(images))


@dataclass(frozen=True)
class Bare:
    """A compiled backbone by itself, on pixels that lie ready."""

    label: str
    forward: Forward
    batch_size: int

    def seconds(self, images: int) -> float:
        """Seconds to forward `images`, a multiple of the batch size."""
        pixels = np.random.default_rng(0).integers(0, 256, (self.batch_size, 3, 224, 224), dtype=np.uint8)
        return _wall(lambda _: self.forward(pixels), range(images // self.batch_size))


def fastest_forward(backbone: str, images: int, precision: str = "fp32") -> Bare:
    """The fastest of engines and batch sizes, by one run of `images` each."""
    loaded = load_backbone(backbone, "random:0", 224)
    candidates = []
    for engine in ENGINES[precision]:
        runtime = resolve_runtime(engine, "cpu", precision)
        for size in BATCH_SIZES:
            forward = compile_forward(loaded, loaded.spec.poolings, runtime, size, 224, WORKERS, eight_bit=True)
            candidates.append(Bare(f"{engine}, batch {size}", forward, size))
    return min(candidates, key=lambda bare: bare.seconds(images))


def _wall(call: Callable[[int], object], numbers: Sequence[int]) -> float:
    """Seconds to call with every number, in turn in as many threads as an extraction has workers, each by itself."""
    threads = torch.get_num_threads()

    def work(worker: int) -> None:
        with one_thread(threads):
            for number in numbers[worker::WORKERS]:
                call(number)

    with ThreadPoolExecutor(WORKERS) as pool:
        return seconds(lambda: list(pool.map(work, range(WORKERS))))
