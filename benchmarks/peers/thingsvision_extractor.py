"""thingsvision's extractor, as its README shows it: batches of 32, the output of one named module."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from thingsvision import get_extractor
from thingsvision.utils.data import DataLoader, ImageDataset

from benchmarks.peers.protocol import Embed, serve

POOLED = {"vit_small_patch16_224": "fc_norm"}
"""Module whose output is the pooled feature; ``global_pool`` in timm's CNNs."""


def load(backbone: str, folder: Path, way: str) -> Embed:
    """The timm model within thingsvision; the library has one way only, so `way` changes nothing."""
    del way
    extractor = get_extractor(backbone, pretrained=False, device="cpu", source="timm")

    def embed() -> tuple[int, float]:
        with TemporaryDirectory() as place:  # the library writes the order of the files there
            transforms = extractor.get_transformations()
            dataset = ImageDataset(str(folder), place, backend="pt", transforms=transforms)
            batches = DataLoader(dataset, batch_size=32, backend="pt")
            features = extractor.extract_features(
                batches, module_name=POOLED.get(backbone, "global_pool"), flatten_acts=True, output_type="ndarray"
            )
        return len(features), 0.0

    return embed


if __name__ == "__main__":
    serve(load)
