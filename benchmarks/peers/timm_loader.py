"""timm and a DataLoader, batch 64: the script that most people write. The way: workers, and the precision."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from timm.data import create_transform, resolve_data_config
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks.peers.protocol import Embed, serve


def load(backbone: str, folder: Path, way: str) -> Embed:
    """The model with its own transform; worker processes stay alive between passes."""
    workers, _, precision = way.partition(",")
    model = timm.create_model(backbone, pretrained=False, num_classes=0).eval()
    transform = create_transform(**resolve_data_config({}, model=model))
    dataset = ImageFolder(str(folder), transform)
    loader = DataLoader(dataset, 64, num_workers=int(workers), persistent_workers=workers != "0")

    def embed() -> tuple[int, float]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            features = torch.cat([model(images).float() for images, _ in loader])
        return len(features.numpy()), 0.0

    return embed


if __name__ == "__main__":
    serve(load)
