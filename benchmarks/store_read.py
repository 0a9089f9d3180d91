"""Reading features from a store in the page cache, every check included, against np.load of the same values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from benchmarks.row import Row, seconds, time_pairs
from benchmarks.stored import make_store, write_features
from featurestore.store.entry import FeatureEntry

N, D = 100_000, 768
PAIRS = 9


def measure() -> Iterator[Row]:
    """Both storage types: the whole matrix, and a tenth of its rows."""
    for dtype in ("float32", "float16"):
        with TemporaryDirectory() as folder:
            values = np.random.default_rng(0).standard_normal((N, D), dtype=np.float32)
            np.save(f"{folder}/values.npy", values.astype(dtype))
            features = write_features(make_store(f"{folder}/store.zarr", N), values, dtype)
            del values
            yield from _measure_one(features, Path(folder) / "values.npy")


def _measure_one(features: FeatureEntry, file: Path) -> Iterator[Row]:
    dtype = features.key.dtype
    stored = features.open()

    def read_by_zarr() -> NDArray[Any]:
        return np.asarray(zarr.open_array(file.parent / "store.zarr", path=stored.array.path, mode="r")[:])

    def read_by_zarrs() -> NDArray[Any]:
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            return read_by_zarr()

    peers: dict[str, Callable[[], object]] = {"zarr-python": read_by_zarr, "zarr-python with zarrs": read_by_zarrs}
    if dtype == "float32":
        yield _compare("float32", features.read, lambda: np.load(file), file, peers)
    else:
        as_stored = lambda: features.open().values(dtype=stored.dtype)  # noqa: E731
        yield _compare("float16 as it is stored", as_stored, lambda: np.load(file), file, peers)
        yield _compare("float16 to float32", features.read, lambda: np.load(file).astype(np.float32), file, {})
    yield _sample(features)


def _compare(
    what: str,
    ours: Callable[[], object],
    load: Callable[[], object],
    file: Path,
    peers: dict[str, Callable[[], object]],
) -> Row:
    times = time_pairs(ours, load, PAIRS)
    size = file.stat().st_size / 1e9
    return Row(
        what=f"read {N:,} x {D} {what}, checksums verified",
        unit="GB/s",
        ours=size / median(times.ours),
        ratio=times.speedup,
        goal=0.4,
        limit=size / median(times.other),
        peers={name: size / median(seconds(peer) for _ in range(PAIRS)) for name, peer in peers.items()},
        note="limit: np.load of the same values, and conversion where we convert; it has one thread, ours up to four",
    )


def _sample(features: FeatureEntry) -> Row:
    rows = np.sort(np.random.default_rng(1).choice(N, N // 10, replace=False))
    times = time_pairs(lambda: features.read(rows=rows), features.read, PAIRS)
    return Row(
        what=f"random 10 % of the rows / whole read, {features.key.dtype}",
        unit="s",
        ours=median(times.ours),
        ratio=1 / times.speedup,
        goal=1.0,
        at_most=True,
        limit=median(times.other),
        note="every chunk has some of the rows and is read whole, for its checksum",
    )
