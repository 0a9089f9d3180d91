"""Images in a folder that other processes can open too, and a model that needs no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featurestore.datasets import open_dataset
from featurestore.extraction.executors.run import ExecutorOptions, run_extraction
from featurestore.extraction.executors.slices import Slice
from featurestore.extraction.processing import Hooks
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store import open_store

N, BLOCK = 40, 4
BACKBONE, VARIANT = "timm:test_efficientnet", "resize=32"
OPTIONS = ExtractionOptions(weights="random:0", engine="torch", batch_size=4, workers=1)


@pytest.fixture(scope="session")
def sky(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("images") / "sky"
    rng = np.random.default_rng(0)
    for number in range(N):
        path = folder / "ab"[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(path)
    (folder / "a" / "000.png").write_bytes(b"not an image")
    return str(folder)


@pytest.fixture
def extract(sky, tmp_path):
    """Extract into a store of this name by some executor, and return its path."""

    def run(name, part=None, options=OPTIONS, **executor):
        store = open_store(str(tmp_path / name), mode="a", block_rows=BLOCK)
        place, chosen = part or Slice(), ExecutorOptions(**executor)
        dataset = open_dataset(sky)
        report = run_extraction(sky, dataset, [BACKBONE], [VARIANT], store, options, chosen, place, Hooks())
        store.close()
        return report

    return run


@pytest.fixture
def read_store(tmp_path):
    """Every file of a store; nothing of writers may be left."""

    def read(name):
        root = tmp_path / name
        files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
        assert not [key for key in files if key.startswith("claims/") and not key.endswith("zarr.json")]
        return {key: Path(path).read_bytes() for key, path in files.items() if not key.startswith("writers/")}

    return read
