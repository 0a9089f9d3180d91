"""Ours, by its public function: from files into a fresh store, in the precision that is named."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers.protocol import Embed, serve
from featurestore.datasets import open_dataset
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store import open_store


def load(backbone: str, folder: Path, way: str) -> Embed:
    """Nothing is kept between passes: the model is loaded in each, and the report says how long that took."""
    options = ExtractionOptions(weights="random:0", precision=way)

    def embed() -> tuple[int, float]:
        with TemporaryDirectory(dir=folder.parent) as place:
            store = open_store(f"{place}/store.zarr", mode="a")
            dataset = open_dataset(f"image_folder:{folder}")
            report = extract_features(dataset, [f"timm:{backbone}"], ["full-224"], store, options)
        return report.features[0].embedded, report.costs.load

    return embed


if __name__ == "__main__":
    serve(load)
