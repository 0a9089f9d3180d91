"""load_backbone: from a name to a frozen model whose weights are hashed."""

from __future__ import annotations

from featurestore.backbones.base import Adapter, Backbone
from featurestore.backbones.catalogue import ADAPTERS, find_spec
from featurestore.backbones.weights import hash_weights, parse_weights
from featurestore.errors import BackboneError


def load_backbone(
    name: str, weights: str | None = None, image_size: int | None = None, trust_remote_code: bool = False
) -> Backbone:
    """Load a backbone in eval mode, without gradients.

    Args:
        name: A name of the catalogue, or ``ADAPTER:MODEL_ID``.
        weights: Source of the weights; the catalogue's for None.
        image_size: Side of its square input in pixels; the size of its weights for None.
        trust_remote_code: Whether code that comes with the weights may run.

    Raises:
        UnknownNameError: No such backbone.
        BackboneError: A patch does not divide the image size.
        WeightsUnavailableError: The weights are not to be had.
        WeightsMismatchError: The weights belong to another architecture.
    """
    spec = find_spec(name)
    size = image_size or spec.image_size
    if spec.patch_size and size % spec.patch_size:
        lower = size // spec.patch_size * spec.patch_size
        raise BackboneError(
            f"{name} has patches of {spec.patch_size} px, which do not divide {size} px",
            where=f"resize={size}",
            hint=f"Use resize={lower or spec.patch_size} or resize={lower + spec.patch_size}.",
        )
    source = parse_weights(weights or spec.weights)
    adapter: Adapter = ADAPTERS.get(spec.adapter)
    tokens = adapter.build(spec, source, size, trust_remote_code).eval().requires_grad_(False)
    return Backbone(spec, tokens, hash_weights(tokens), str(source))
