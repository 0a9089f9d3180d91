"""The ``image-feature-extraction`` pipeline of transformers. The way: the batch size."""

from __future__ import annotations

from pathlib import Path

import transformers

from benchmarks.peers.protocol import Embed, serve


def load(backbone: str, folder: Path, way: str) -> Embed:
    """The pipeline, on a list of paths, with the pooled output of the model."""
    model, processor = _build(backbone)
    pipeline = transformers.pipeline(
        "image-feature-extraction", model=model, image_processor=processor, pool=True, device="cpu"
    )
    paths = [str(path) for path in sorted(folder.rglob("*.jpeg"))]
    return lambda: (len(pipeline(paths, batch_size=int(way))), 0.0)


def _build(backbone: str) -> tuple[transformers.PreTrainedModel, transformers.BaseImageProcessor]:
    """The library's own form of the backbone with random weights, and the image processor of its checkpoints."""
    if backbone == "resnet18":
        config = transformers.ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic")
        return transformers.ResNetModel(config).eval(), transformers.ConvNextImageProcessor(size={"shortest_edge": 224})
    if backbone == "vit_small_patch16_224":
        config = transformers.ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
        return transformers.ViTModel(config).eval(), transformers.ViTImageProcessor()
    raise ValueError(f"transformers has no {backbone}")


if __name__ == "__main__":
    serve(load)
