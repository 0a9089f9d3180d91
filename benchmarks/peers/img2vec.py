"""img2vec_pytorch, which has ResNet-18 of our backbones. The way: one picture a call, or lists of 64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from img2vec_pytorch import Img2Vec, img_to_vec
from PIL import Image

from benchmarks.peers.protocol import Embed, serve


def load(backbone: str, folder: Path, way: str) -> Embed:
    """The library's ResNet-18, with random weights in place of those that it would download."""
    img_to_vec.resnet18 = lambda weights: torchvision.models.resnet18()  # noqa: ARG005
    img2vec = Img2Vec(model={"resnet18": "resnet"}[backbone])
    paths = sorted(folder.rglob("*.jpeg"))

    def embed() -> tuple[int, float]:
        if way == "single":
            features = [img2vec.get_vec(_open(path)) for path in paths]
        else:
            lists = [paths[start : start + 64] for start in range(0, len(paths), 64)]
            features = [img2vec.get_vec([_open(path) for path in some]) for some in lists]
        return len(np.vstack(features)), 0.0

    return embed


def _open(path: Path) -> Any:
    with Image.open(path) as image:
        return image.convert("RGB")


if __name__ == "__main__":
    serve(load)
