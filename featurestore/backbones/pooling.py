"""From a backbone's tokens to what is stored of an image. Every pooling has a name; none is guessed from a shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featurestore.errors import PoolingError
from featurestore.store.key import DENSE

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenFeatures:
    """What a backbone returns for a batch of B images.

    Attributes:
        patches: (B, h, w, D) grid of patch tokens, or the last feature map of a CNN, channels last; None for a model
            that returns neither.
        cls: (B, D) class token, or None.
        registers: (B, R, D) register tokens, or None.
        pooled: The model's own poolings by name, each (B, D'): ``map`` (attention pool), ``summary`` (RADIO), or one
            of the others where the model does more than the name says, such as a norm after the average.
        layers: Number of a block -> what it makes of the images, where asked for.
    """

    patches: Tensor | None
    cls: Tensor | None = None
    registers: Tensor | None = None
    pooled: Mapping[str, Tensor] = field(default_factory=dict)
    layers: Mapping[str, TokenFeatures] = field(default_factory=dict)

    @property
    def grid(self) -> Tensor:
        """The patches, (B, h, w, D).

        Raises:
            PoolingError: There are none.
        """
        if self.patches is None:
            raise PoolingError("the backbone has no grid of patches", where=DENSE, hint="Use its pooled features.")
        return self.patches


def _mean_of_grid(features: TokenFeatures) -> Tensor:
    return features.grid.mean(dim=(1, 2))


def _cls(features: TokenFeatures) -> Tensor:
    if features.cls is None:
        raise PoolingError("the backbone has no class token", where="cls", hint="Use avg_patch, avgpool or map.")
    return features.cls


def _cls_avg_patch(features: TokenFeatures) -> Tensor:
    import torch

    return torch.cat([pool(features, "cls"), pool(features, "avg_patch")], dim=-1)


def _only_own(kind: str) -> Callable[[TokenFeatures], Tensor]:
    def refuse(_: TokenFeatures) -> Tensor:
        raise PoolingError(
            f"the backbone has no pooling {kind!r} of its own", where=kind, hint="Use cls, avg_patch or avgpool."
        )

    return refuse


_OWN = ("map", "summary")
"""Poolings that a model has or has not: they need weights of its own, or its last layer."""

_POOLINGS: dict[str, Callable[[TokenFeatures], Tensor]] = {
    "cls": _cls,
    "avg_patch": _mean_of_grid,
    "cls_avg_patch": _cls_avg_patch,
    "avgpool": _mean_of_grid,
    **{kind: _only_own(kind) for kind in _OWN},
}

POOLINGS = (*_POOLINGS, DENSE)
"""cls (class token); avg_patch (mean patch token); cls_avg_patch (both, concatenated); map (attention pool);
avgpool (global average of a CNN's last map); summary (RADIO); patches (all patch tokens, or a CNN's last map).

``POOLING@LAYER`` is the same of an inner layer."""


def pool(features: TokenFeatures, kind: str) -> Tensor:
    """One vector an image, (B, D): the model's own pooling of that name where it has one, else from the tokens.

    For `DENSE` the grid, (B, h, w, D).

    Raises:
        PoolingError: No such pooling, or the backbone does not offer it.
    """
    kind, _, layer = kind.partition("@")
    features = features.layers[layer] if layer else features
    if kind not in POOLINGS:
        raise PoolingError(f"unknown pooling {kind!r}", where=kind, hint=f"Use one of {', '.join(POOLINGS)}.")
    if kind == DENSE:
        return features.grid
    return features.pooled[kind] if kind in features.pooled else _POOLINGS[kind](features)


def layer_suffix(layer: int | None) -> str:
    """What follows the name of a backbone or a pooling at an inner layer: ``@LAYER``."""
    return "" if layer is None else f"@{layer}"


def poolings_of_tokens(offered: Sequence[str]) -> tuple[str, ...]:
    """Those among `offered` that any layer has."""
    return tuple(kind for kind in offered if kind not in _OWN)


def check_offered(kind: str, name: str, offered: Sequence[str], *, dense: bool) -> None:
    """Refuse a pooling that the backbone `name` does not have.

    Args:
        kind: The pooling.
        name: Name of the backbone.
        offered: Poolings that it offers.
        dense: Whether it offers `DENSE` too.

    Raises:
        PoolingError: It does not offer it.
    """
    if kind in offered or (dense and kind == DENSE):
        return
    grid = f"; and {DENSE}, for dense features" if dense else ", and no dense features"
    raise PoolingError(
        f"{name} does not offer the pooling {kind!r}", where=name, hint=f"It offers {', '.join(offered)}{grid}."
    )
