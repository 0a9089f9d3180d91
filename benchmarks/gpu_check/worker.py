"""One extraction in a process of its own; its words: FOLDER STORE DEVICE PRECISION BACKBONE SIDE BATCH.

It prints a line whenever rows are committed, so that whoever started it can end it between two of them.
"""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.gpu_check.setting import prepare
from featurestore.datasets import open_dataset
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store import open_store

BLOCK_ROWS = 8


def main(folder: str, path: str, device: str, precision: str, backbone: str, side: str, batch: str) -> None:
    """Extract, and say how far it is."""
    prepare()
    how: dict[str, Any] = {"engine": "torch", "device": device, "precision": precision}
    options = ExtractionOptions(weights="random:0", batch_size=int(batch), workers=2, **how)
    rows = BLOCK_ROWS if int(batch) <= BLOCK_ROWS else 2 * int(batch)
    store = open_store(path, mode="a", block_rows=rows)

    def progress(done: int, total: int) -> None:
        print(done, total, flush=True)

    extract_features(open_dataset(f"image_folder:{folder}"), [backbone], [f"resize={side}"], store, options, progress)


if __name__ == "__main__":
    main(*sys.argv[1:])
