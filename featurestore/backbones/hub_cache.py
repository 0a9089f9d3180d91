"""Whether the weights of a backbone are on this machine already. No model library is imported to find out."""

from __future__ import annotations

from featurestore.backbones.base import BackboneSpec
from featurestore.backbones.weights import HUB_FILES, WeightsSource, is_installed, parse_weights
from featurestore.errors import WeightsUnavailableError

_OPEN_CLIP = {"ViT-B-32/openai": "timm/vit_base_patch32_clip_224.openai"}
"""open_clip's id -> the repository that it downloads from; it follows no rule."""


def repository(spec: BackboneSpec) -> str | None:
    """The repository on the Hugging Face hub that the library would download from; None where that is not known."""
    if spec.adapter == "timm":
        return f"timm/{spec.model_id}"
    if spec.adapter == "transformers":
        return spec.model_id
    return _OPEN_CLIP.get(spec.model_id) if spec.adapter == "open_clip" else None


def presence(spec: BackboneSpec) -> str:
    """``yes`` or ``no``: whether a default source needs no download; ``random`` where there is nothing to download.

    ``unknown`` for a library whose downloads are not kept by the Hugging Face hub.
    """
    try:
        source = parse_weights(spec.weights)
    except WeightsUnavailableError:
        return "no"
    if source.kind == "random":
        return "random"
    if source.kind == "hub" and repository(spec) is None:
        return "unknown"
    return "yes" if _is_present(spec, source) else "no"


def _is_present(spec: BackboneSpec, source: WeightsSource) -> bool:
    if source.kind == "hub":
        return _is_cached(repository(spec) or "", spec.revision)
    return source.kind == "file" or is_installed(source.value)


def _is_cached(place: str, revision: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    try:
        # The library answers with a path, with None, or with a mark of its own for a file that the hub does not have.
        return any(isinstance(try_to_load_from_cache(place, file, revision=revision), str) for file in HUB_FILES)
    except (OSError, ValueError):  # a cache that cannot be read, or an id that no hub can have
        return False
