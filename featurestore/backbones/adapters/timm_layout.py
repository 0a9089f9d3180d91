"""What timm models make of an image, and the modules that turn it into `TokenFeatures`: tokens, a map, or a vector."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from featurestore.backbones.pooling import TokenFeatures
from featurestore.errors import BackboneError

_OWN_POOLING = {"token": "cls", "avg": "avg_patch", "map": "map"}
"""timm's name of the pooling that a transformer was made with -> ours."""

_WITHOUT_GRID = {"token": "cls", "avg": "avgpool"}
"""The same for a model that returns no grid: what its head pools are several streams, or class tokens alone."""

_SUMMARY_TOKENS = {
    "naflexvit_base_patch16_radio_v3": 3,
    "naflexvit_large_patch16_radio_v3": 3,
    "naflexvit_huge_patch16_radio_v3": 3,
    "naflexvit_so400m_patch16_radio_v4": 2,
    "naflexvit_huge_patch16_radio_v4": 2,
}
"""Class tokens that C-RADIO joins to its summary, as its authors configure it. It has one for each teacher, those of
the summary first; timm takes the first for the class token and the others for registers."""


@dataclass(frozen=True)
class Layout:
    """What a timm model offers.

    Attributes:
        poolings: Named poolings, the model's own first.
        patch_size: Side of a patch in pixels, of a model that returns tokens; None for one that returns no tokens.
        dense: Whether there is a grid of patches or a map, beside the pooled features.
    """

    poolings: tuple[str, ...]
    patch_size: int | None = None
    dense: bool = True


def find_layout(model: Any, name: str) -> Layout:
    """The layout of a model without its head, from what it makes of an image of its own size.

    Args:
        model: On the device ``meta``, where tensors have shapes and no values.
        name: What errors call it.

    Raises:
        BackboneError: It returns nothing that has a name here.
    """
    side = int(model.eval().pretrained_cfg["input_size"][-1])
    try:
        with torch.device("meta"), torch.no_grad():
            output = model.forward_features(torch.zeros(1, 3, side, side))
            model.forward_head(output, pre_logits=True)
    except Exception as error:  # what a model raises that is not an image model is anything
        raise _unusable(f"it does not run on an image: {str(error) or type(error).__name__}", name) from error
    if isinstance(output, Tensor) and output.ndim == 4:
        return Layout(("avgpool",))
    patch_size = _patch_size(model, side, output.shape[1]) if isinstance(output, Tensor) and output.ndim == 3 else None
    if patch_size is not None:
        return Layout(_poolings_of_tokens(model), patch_size)
    own = _WITHOUT_GRID.get(_pool_type(model))
    if own is None:
        raise _unusable("it returns neither a grid nor pooled features that are known", name)
    return Layout((own,), dense=False)


def wrap_model(model: Any, layout: Layout, image_size: int) -> nn.Module:
    """A timm model without its head as a module that returns `TokenFeatures`."""
    if layout.patch_size is not None:
        return _Transformer(model, image_size, layout.patch_size)
    return _FeatureMap(model) if layout.dense else _Pooled(model, layout.poolings[0])


class _Transformer(nn.Module):
    """A model that returns tokens: class token, registers, patch grid, and the model's own pooling with its norm."""

    def __init__(self, model: Any, image_size: int, patch_size: int) -> None:
        super().__init__()
        self.model = model
        self.grid = (image_size // patch_size,) * 2
        self.own = _OWN_POOLING.get(_pool_type(model))
        self.n_prefix = _n_prefix(model)
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
    """A CNN or windowed transformer: its last map, channels last, and timm's pooling with the norm after it."""

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


class _Pooled(nn.Module):
    """A model that ends in no grid, such as one of several scales (CrossViT, CoaT): the features before its head."""

    def __init__(self, model: Any, own: str) -> None:
        super().__init__()
        self.model = model
        self.own = own

    def forward(self, images: Tensor) -> TokenFeatures:
        features = self.model.forward_features(images)
        return TokenFeatures(patches=None, pooled={self.own: self.model.forward_head(features, pre_logits=True)})


def _patch_size(model: Any, side: int, n_tokens: int) -> int | None:
    """Side of a patch, if the tokens after the prefix are a square grid over images of `side` pixels."""
    n_patches = n_tokens - _n_prefix(model)
    n_rows = isqrt(max(n_patches, 0))
    if n_rows == 0 or n_rows**2 != n_patches:
        return None
    embedding = _embedding(model)
    stated = getattr(embedding, "patch_size", None)
    stated = stated[0] if isinstance(stated, tuple) else stated
    if stated and side // stated == n_rows:
        return int(stated)
    return side // n_rows if side % n_rows == 0 else None  # merged since it was embedded


def _poolings_of_tokens(model: Any) -> tuple[str, ...]:
    own = "summary" if _n_summary(model) else _OWN_POOLING.get(_pool_type(model), "avg_patch")
    from_tokens = ("cls", "avg_patch", "cls_avg_patch") if _has_cls(model) else ("avg_patch",)
    return own, *(kind for kind in from_tokens if kind != own)


def _embedding(model: Any) -> Any:
    """The layer that makes patches; NaFlex models keep their class token there too."""
    return model.embeds if hasattr(model, "embeds") else getattr(model, "patch_embed", None)


def _pool_type(model: Any) -> str:
    """Timm's name of the model's own pooling; empty where it has no name."""
    own = getattr(model, "global_pool", None)
    return str(own if isinstance(own, str) else getattr(getattr(model, "head", None), "pool_type", ""))


def _n_prefix(model: Any) -> int:
    """Tokens before the patches; what pools a class token has one, whether it counts it or not."""
    stated = getattr(model, "num_prefix_tokens", None)
    return int(_pool_type(model) == "token" if stated is None else stated)


def _has_cls(model: Any) -> bool:
    """Whether the first token is a class token."""
    holder = model.embeds if hasattr(model, "embeds") else model
    return getattr(holder, "cls_token", None) is not None or _pool_type(model) == "token"


def _n_summary(model: Any) -> int:
    return _SUMMARY_TOKENS.get(model.pretrained_cfg["architecture"], 0)


def _unusable(reason: str, name: str) -> BackboneError:
    return BackboneError(
        f"the model cannot be used as a backbone: {reason}",
        where=name,
        hint="Use a model that embeds single images: skyprobe backbones lists some.",
    )
