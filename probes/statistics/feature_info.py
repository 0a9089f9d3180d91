"""What is known of stored features besides their values: how the images were prepared, and for which model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probes.sweep.combination import split_names

if TYPE_CHECKING:
    from featurestore.store.entry import FeatureEntry
    from featurestore.store.features import FeatureSet


@dataclass(frozen=True)
class FeatureInfo:
    """A stored feature matrix: what was done to the images, and which model saw them.

    Attributes:
        key: KEY12.
        backbone: Name of the backbone.
        variant: Name of the variant.
        preprocessing: The resolved preprocessing.
        patch: Side of a patch in pixels; None for a CNN, or where it is not known.
        params: Millions of parameters; 0 where they are not known.
        weights: Source of the weights, as the user named it; empty where it is not known.
    """

    key: str
    backbone: str
    variant: str
    preprocessing: Mapping[str, Any]
    patch: int | None
    params: float
    weights: str = ""


def describe_features(features: FeatureEntry | FeatureSet) -> FeatureInfo:
    """What is known of features, whether they are in a store or in memory."""
    spec = features.provenance.get("spec", {})
    return FeatureInfo(
        key=features.key.short,
        backbone=features.backbone,
        variant=features.variant,
        preprocessing=features.key.preprocessing,
        patch=spec.get("patch_size"),
        params=spec.get("params", 0.0),
        weights=features.provenance.get("weights", ""),
    )


def count_params(backbone: str, infos: Iterable[FeatureInfo]) -> float:
    """Millions of parameters of a backbone, or of all those that it combines; 0 if one is not known."""
    known = {info.backbone: info.params for info in infos}
    each = [known.get(name, 0.0) for name in split_names(backbone)]
    return sum(each) if all(each) else 0.0


def differ_in(first: Mapping[str, Any], second: Mapping[str, Any], field: str) -> bool:
    """Whether two preprocessings differ in one field alone; a resize may go with another interpolation."""
    free = {field, "interpolation"} if field == "resize" else {field}
    alike = {name for name in first.keys() | second.keys() if first.get(name) == second.get(name)}
    return first.get(field) != second.get(field) and first.keys() | second.keys() <= alike | free


def same_family(first: str, second: str) -> bool:
    """Whether two names of backbones differ in their size alone: dinov2-s and dinov2-b, resnet-50 and resnet-152."""
    parts = [name.split("-") for name in (first, second)]
    if len(parts[0]) != len(parts[1]):
        return False
    different = [(a, b) for a, b in zip(*parts, strict=True) if a != b]
    return len(different) == 1 and all(_SIZE.fullmatch(part) for part in different[0])


_SIZE = re.compile(r"n|t|s|b|l|h|g|so|so400m|\d+")
