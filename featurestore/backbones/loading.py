"""load_backbone: from a name to a frozen model whose weights are hashed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from featurestore.backbones.base import N_COLOURS, Adapter, Backbone, BackboneSpec
from featurestore.backbones.catalogue import ADAPTERS, find_spec
from featurestore.backbones.weights import hash_weights, parse_weights
from featurestore.errors import BackboneError, SkyprobeError

if TYPE_CHECKING:
    from torch import nn

    from featurestore.backbones.base import TokenModule


def load_backbone(
    name: str,
    weights: str | None = None,
    image_size: int | None = None,
    trust_remote_code: bool = False,
    n_channels: int = N_COLOURS,
) -> Backbone:
    """Load a backbone in eval mode, without gradients.

    Args:
        name: A name of the catalogue, or ``ADAPTER:MODEL_ID``; with ``@LAYER``, up to an inner layer.
        weights: Source of the weights; the catalogue's for None.
        image_size: Side of its square input in pixels; the size of its weights for None.
        trust_remote_code: Whether code that comes with the weights may run.
        n_channels: Channels of its images; for other than three the input layer is inflated (see
            `featurestore.backbones.channels`). The hash is that of the weights as they came.

    Raises:
        UnknownNameError: No such backbone.
        BackboneError: An image size that is not a positive multiple of the patch, or no such layer.
        WeightsUnavailableError: The weights are not to be had.
        WeightsMismatchError: The weights belong to another architecture.
    """
    spec = find_spec(name)
    size = spec.image_size if image_size is None else image_size
    _check_size(spec, size)
    source = parse_weights(weights or spec.weights)
    adapter: Adapter = ADAPTERS.get(spec.adapter)
    tokens = adapter.build(spec, source, size, trust_remote_code).eval().requires_grad_(False)
    weights_hash = hash_weights(tokens)
    if n_channels != N_COLOURS:
        from featurestore.backbones.channels import inflate_input

        inflate_input(tokens, n_channels)
    check = getattr(tokens, "weights_check", "")
    return Backbone(spec.with_channels(n_channels), _ending_at(spec, tokens), weights_hash, str(source), str(check))


@contextmanager
def first_run(spec: BackboneSpec, image_size: int) -> Iterator[None]:
    """Turn what a model raises on images of a size that it does not take into one clear error.

    Raises:
        BackboneError: It does not run on them.
    """
    try:
        yield
    except (SkyprobeError, MemoryError):
        raise
    except Exception as error:  # a model of a library raises anything
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise BackboneError(
            f"the model does not run on images of {image_size} px: {(str(error) or repr(error)).splitlines()[0]}",
            where=spec.name,
            hint=f"Use resize={spec.image_size}." if image_size != spec.image_size else "Use another backbone.",
        ) from error


def run_blank_image(module: nn.Module, spec: BackboneSpec, image_size: int) -> Any:
    """What a module makes of one blank image, float32 (1, C, S, S), without gradients.

    Raises:
        BackboneError: See `first_run`.
    """
    import torch

    with first_run(spec, image_size), torch.no_grad():
        return module(torch.zeros(1, len(spec.mean), image_size, image_size))


def _ending_at(spec: BackboneSpec, tokens: TokenModule) -> TokenModule:
    if spec.layer is None:
        return tokens
    from featurestore.backbones.layers import InnerTokens

    return cast("TokenModule", InnerTokens(spec, tokens, spec.layer))


def _check_size(spec: BackboneSpec, size: int) -> None:
    patch = spec.patch_size or 1
    if size > 0 and size % patch == 0:
        return
    lower = max(size, 0) // patch * patch
    nearest = [f"resize={side}" for side in (lower, lower + patch) if side > 0]
    raise BackboneError(
        f"{spec.name} takes sides that are multiples of {patch} px, not {size} px",
        where=f"resize={size}",
        hint=f"Use {' or '.join(nearest)}.",
    )
