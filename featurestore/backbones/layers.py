"""Inner layers of a backbone: what its blocks make of the images, beside its own output and in the same pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from threading import local
from typing import Any, NoReturn

from torch import Tensor, nn

from featurestore.backbones.base import BackboneSpec
from featurestore.backbones.pooling import TokenFeatures
from featurestore.errors import BackboneError

_NUMBERED = re.compile(r"(.*?)(\d+)")


class _Seen(local):
    """Outputs of blocks by layer, of each thread by itself: workers share a model."""

    def __init__(self) -> None:
        self.outputs: dict[int, Tensor] = {}

    def __reduce__(self) -> tuple[type[_Seen], tuple[()]]:
        return _Seen, ()  # a copy of the model listens to its own blocks

    def keep(self, layer: int, _module: nn.Module, _given: Any, output: Any) -> None:
        self.outputs[layer] = output[0] if isinstance(output, tuple) else output

    def take(self) -> dict[int, Tensor]:
        taken, self.outputs = self.outputs, {}
        return taken


class LayeredTokens(nn.Module):
    """A backbone whose `TokenFeatures` hold inner layers too.

    A layer is the output of a block as the next block sees it, without the norm that may follow the last one. Blocks
    are counted from 1; of a CNN they are its stages.

    Args:
        spec: Catalogue entry of the backbone.
        tokens: The backbone; it is left as it is, except that its blocks are listened to.
        layers: Numbers of blocks.

    Raises:
        BackboneError: The model has no such block.
    """

    def __init__(self, spec: BackboneSpec, tokens: nn.Module, layers: Sequence[int]) -> None:
        super().__init__()
        self.tokens, self._name = tokens, spec.name
        if not spec.dense:
            raise BackboneError(
                "the backbone has no grid of patches, and so none in its inner layers",
                where=spec.name,
                hint=f"Use {spec.base}, its last layer.",
            )
        self._is_map = spec.patch_size is None
        self._n_prefix: int | None = getattr(tokens, "n_prefix", None)
        self._channels_last = bool(getattr(tokens, "channels_last", False))
        self._seen, self._n_layers = _Seen(), len(set(layers))
        blocks = find_blocks(tokens)
        for layer in layers:
            if not 0 < layer <= len(blocks):
                raise BackboneError(
                    f"the backbone has {len(blocks)} layers, and no layer {layer}",
                    where=spec.name,
                    hint=f"Write {spec.base}@K with K from 1 to {len(blocks)}.",
                )
            blocks[layer - 1].register_forward_hook(partial(self._seen.keep, layer))

    def forward(self, images: Tensor) -> TokenFeatures:
        """Tokens of normalised images, float (B, C, H, W)."""
        features: TokenFeatures = self.tokens(images)
        seen = self._seen.take()
        if len(seen) < self._n_layers:
            self._refuse("do not run one after the other")
        inner = {str(layer): self._features(output, features) for layer, output in seen.items()}
        return replace(features, layers=inner)

    def _features(self, output: Any, last: TokenFeatures) -> TokenFeatures:
        if not isinstance(output, Tensor):
            self._refuse("return several tensors")
        if self._is_map:
            return TokenFeatures(self._map(output))
        height, width = last.grid.shape[1:3]
        n_prefix = output.shape[1] - height * width
        if output.ndim != 3 or n_prefix != (n_prefix if self._n_prefix is None else self._n_prefix):
            self._refuse("do not have the tokens of the last one")
        return TokenFeatures(
            patches=output[:, n_prefix:].reshape(len(output), height, width, -1),
            cls=output[:, 0] if last.cls is not None else None,
        )

    def _map(self, output: Tensor) -> Tensor:
        """A map, channels last: of square images, which a map in another order does not look like."""
        features = output if self._channels_last or output.ndim != 4 else output.permute(0, 2, 3, 1)
        if features.ndim != 4 or features.shape[1] != features.shape[2]:
            self._refuse("are not feature maps in the order of the last one")
        return features

    def _refuse(self, reason: str) -> NoReturn:
        raise BackboneError(f"the inner layers of the backbone {reason}", where=self._name, hint="Use its last layer.")


class InnerTokens(nn.Module):
    """A backbone that ends at one of its inner layers."""

    def __init__(self, spec: BackboneSpec, tokens: nn.Module, layer: int) -> None:
        super().__init__()
        self.layered, self._layer = LayeredTokens(spec, tokens, [layer]), str(layer)

    def forward(self, images: Tensor) -> TokenFeatures:
        """Tokens of normalised images, float (B, C, H, W)."""
        features: TokenFeatures = self.layered(images).layers[self._layer]
        return features


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks that a backbone consists of, from input to output; none where it has no row of them.

    They are the longest part of the network, by parameters, whose members are siblings numbered in a row: ``blocks.0``
    ... of a vision transformer, ``layer1`` ... ``layer4`` of a ResNet, the stages of an EfficientNet, ``layer.0`` ...
    of an encoder. Of nested rows that hold as much, the outer one counts.
    """
    rows = [row for parent in module.modules() for row in _numbered_children(parent)]
    return max(rows, key=lambda row: sum(map(_count_parameters, row)), default=[])


def _numbered_children(parent: nn.Module) -> Iterator[list[nn.Module]]:
    """Rows of two or more children whose names are one word and numbers that rise by one."""
    rows: dict[str, dict[int, nn.Module]] = {}
    for name, child in parent.named_children():
        match = _NUMBERED.fullmatch(name)
        if match and _count_parameters(child):
            rows.setdefault(match[1], {})[int(match[2])] = child
    for row in rows.values():
        numbers = sorted(row)
        if len(numbers) > 1 and numbers[-1] - numbers[0] + 1 == len(numbers):
            yield [row[number] for number in numbers]


def _count_parameters(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())
