"""clip-benchmark's featurizer, fed as its command line does: batch 64 from a DataLoader. The way: workers.

Its own ``evaluate`` runs on CUDA only, so the loop around the featurizer is written here, without mixed precision.
"""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch
from clip_benchmark.metrics.linear_probe import Featurizer
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks.peers.protocol import Embed, serve


def load(backbone: str, folder: Path, way: str) -> Embed:
    """A CLIP model whose image tower is the timm backbone; its text tower is small and never runs."""
    vision = {"timm_model_name": backbone, "timm_model_pretrained": False, "image_size": 224}
    text = {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 1, "layers": 1}
    model = open_clip.CustomTextCLIP(512, vision, text).eval()
    featurizer = Featurizer(model)
    dataset = ImageFolder(str(folder), open_clip.image_transform(224, is_train=False))
    loader = DataLoader(dataset, 64, num_workers=int(way), persistent_workers=way != "0")

    def embed() -> tuple[int, float]:
        with torch.no_grad():
            features = torch.cat([featurizer(images) for images, _ in loader])
        return len(features.numpy()), 0.0

    return embed


if __name__ == "__main__":
    serve(load)
