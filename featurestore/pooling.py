"""From a backbone's tokens to one vector an image. Every pooling has a name; none is guessed from a shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featurestore.errors import PoolingError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenFeatures:
    """What a backbone returns for a batch of B images.

    Attributes:
        patches: (B, h, w, D) grid of patch tokens, or the last feature map of a CNN, channels last.
        cls: (B, D) class token, or None.
        registers: (B, R, D) register tokens, or None.
        pooled: The model's own poolings by name, each (B, D'): ``map`` (attention pool), ``summary`` (RADIO).
        layers: Layer name -> (B, h, w, D) grid of an inner layer, where asked for.
    """

    patches: Tensor
    cls: Tensor | None = None
    registers: Tensor | None = None
    pooled: Mapping[str, Tensor] = field(default_factory=dict)
    layers: Mapping[str, Tensor] = field(default_factory=dict)


def _mean_of_grid(features: TokenFeatures) -> Tensor:
    return features.patches.mean(dim=(1, 2))


def _cls(features: TokenFeatures) -> Tensor:
    if features.cls is None:
        raise PoolingError("the backbone has no class token", where="cls", hint="Use avg_patch, avgpool or map.")
    return features.cls


def _cls_avg_patch(features: TokenFeatures) -> Tensor:
    import torch

    return torch.cat([_cls(features), _mean_of_grid(features)], dim=-1)


def _own(kind: str) -> Callable[[TokenFeatures], Tensor]:
    def take(features: TokenFeatures) -> Tensor:
        if kind not in features.pooled:
            raise PoolingError(
                f"the backbone has no pooling {kind!r} of its own", where=kind, hint="Use cls, avg_patch or avgpool."
            )
        return features.pooled[kind]

    return take


_POOLINGS: dict[str, Callable[[TokenFeatures], Tensor]] = {
    "cls": _cls,
    "avg_patch": _mean_of_grid,
    "cls_avg_patch": _cls_avg_patch,
    "map": _own("map"),
    "avgpool": _mean_of_grid,
    "summary": _own("summary"),
}

POOLINGS = tuple(_POOLINGS)
"""cls (class token); avg_patch (mean patch token); cls_avg_patch (both, concatenated); map (attention pool);
avgpool (global average of a CNN's last map); summary (RADIO)."""


def pool(features: TokenFeatures, kind: str) -> Tensor:
    """One vector an image, (B, D).

    Raises:
        PoolingError: No such pooling, or the backbone does not offer it.
    """
    if kind not in _POOLINGS:
        raise PoolingError(f"unknown pooling {kind!r}", where=kind, hint=f"Use one of {', '.join(POOLINGS)}.")
    return _POOLINGS[kind](features)
