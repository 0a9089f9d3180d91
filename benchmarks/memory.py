"""Memory of an extraction does not grow with the dataset: tiny images through a tiny backbone, many against few."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.images import GeneratedImages
from benchmarks.row import Row

FEW, MANY = 20_000, 200_000
WARM_UP = 5_000
BACKBONE, VARIANT = "timm:test_efficientnet", "resize=32"


def measure() -> Iterator[Row]:
    """Peak resident memory after the first 5,000 images, each size in a process of its own."""
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        few, many = (pool.apply(peak_memory, (count,)) for count in (FEW, MANY))
    what = f"peak memory of extracting {MANY:,} images, over that of {FEW:,}"
    yield Row(what, "GB", many / 1e9, many / few, 1.10, at_most=True, note=f"{few / 1e9:.3f} GB at {FEW:,}")


def peak_memory(count: int) -> int:
    """Largest resident memory in bytes, looked at after every batch once warm."""
    from featurestore.extraction.extract import extract_features
    from featurestore.extraction.requests import ExtractionOptions
    from featurestore.store import open_store

    peak = 0

    def watch(done: int, _: int) -> None:
        nonlocal peak
        if done > WARM_UP:
            peak = max(peak, _resident())

    with TemporaryDirectory() as place:
        store, options = open_store(f"{place}/store.zarr", mode="a"), ExtractionOptions(weights="random:0")
        extract_features(GeneratedImages(count), [BACKBONE], [VARIANT], store, options, watch)
    return peak


def _resident() -> int:
    """Bytes of this process in memory, as Linux counts them."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
