"""Attention of a transformer: where its class token, its pooling query or its patches look, block by block.

torch computes attention in few functions, whichever library a model is from. They are listened to while the model runs
as it always does, so that no model is changed, and none has to be known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featurestore.backbones.base import Backbone, BackboneSpec
from featurestore.errors import BackboneError

CLS, PATCHES = "cls", "patches"
"""Whose attention the maps of blocks are: the class token's, or the mean of all patches' where there is none."""


@dataclass(frozen=True)
class AttentionMaps:
    """Attention of B images over their h x w patches; what goes to class tokens and registers is left out.

    Attributes:
        blocks: float32 (B, blocks, heads, h, w), that of the `query` in each block.
        pooled: float32 (B, heads, h, w), that of the latent query of an attention pool (the MAP head of SigLIP);
            (B, 0, h, w) where the model has none.
        rollout: float32 (B, h, w), attention rollout (Abnar & Zuidema 2020, ACL, section 3) of the latent query, else
            of `query`: the product over blocks of 0.5 A + 0.5 I with the mean A over heads, classes and registers
            included.
        query: `CLS` or `PATCHES`.
    """

    blocks: NDArray[np.float32]
    pooled: NDArray[np.float32]
    rollout: NDArray[np.float32]
    query: str


def attend(backbone: Backbone, pixels: NDArray[np.float32]) -> AttentionMaps:
    """Attention in fp32, image by image: no more than the matrix of one block and the rollout are held at once.

    Args:
        backbone: A transformer of any adapter; of ``NAME@LAYER`` the blocks up to that layer.
        pixels: float32 (B, C, H, W) in [0, 1], at least one image.

    Raises:
        BackboneError: It has no attention over all its patches: a CNN, or one with windows.
    """
    spec = backbone.spec
    if spec.patch_size is None:
        _refuse(spec, "it is not a plain vision transformer")
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (spec.mean, spec.std))
    images = list(((torch.from_numpy(pixels) - mean) / std)[:, None])
    with torch.inference_mode():
        features = backbone.tokens(images[0])  # its layout must be known before its attention is reduced
        n_rows, n_columns = features.grid.shape[1:3]
        query = CLS if features.cls is not None or "summary" in features.pooled else PATCHES
        seen = [_listen(backbone, image, n_rows * n_columns, query) for image in images]

    blocks, pooled, rollout = (
        np.stack([part.reshape(*part.shape[:-1], n_rows, n_columns).numpy() for part in parts])
        for parts in zip(*seen, strict=True)
    )
    return AttentionMaps(blocks, pooled, rollout, query)


def _listen(backbone: Backbone, image: Tensor, n_patches: int, query: str) -> tuple[Tensor, Tensor, Tensor]:
    """Maps of the blocks and of the pool, and the rollout, of one image (1, C, H, W)."""
    listener = _Listener(backbone.spec, n_patches, query)
    with listener:
        backbone.tokens(image)
    return listener.result()


class _Listener(TorchFunctionMode):
    """Sees the attention matrices of one image in the order of the blocks, and keeps what is shown of them."""

    def __init__(self, spec: BackboneSpec, n_patches: int, query: str) -> None:
        super().__init__()
        self._spec, self._n_patches, self._query = spec, n_patches, query
        self._blocks: list[Tensor] = []
        self._pooled = torch.zeros(0, n_patches)
        self._product = torch.empty(0)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _MATRICES:  # torch does not come back here for calls from within
            self._keep(_MATRICES[func](*args, **given).float())
        return func(*args, **given)

    def _keep(self, attention: Tensor) -> None:
        """Take note of one matrix, (1, heads, queries, keys)."""
        if len(self._blocks) == self._spec.layer:
            return
        n_images, _, n_queries, n_keys = attention.shape
        if n_images != 1 or n_keys < self._n_patches:
            _refuse(self._spec, "its attention does not go over all patches")
        if n_queries == n_keys:
            self._blocks.append(self._of_query(attention[0]))
            step = (attention[0].mean(dim=0) + torch.eye(n_keys)) / 2
            self._product = step @ self._product if len(self._blocks) > 1 else step
        else:
            self._pooled = attention[0].mean(dim=1)

    def _of_query(self, matrix: Tensor) -> Tensor:
        """Rows of the query, (heads, patches) or (patches,), of a matrix (..., tokens, tokens)."""
        seen = matrix[..., -self._n_patches :]
        return seen[..., 0, :] if self._query == CLS else seen[..., -self._n_patches :, :].mean(dim=-2)

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """(blocks, heads, patches), (heads, patches) and (patches,)."""
        if not self._blocks:
            _refuse(self._spec, "torch's own attention is not used by it")
        n_patches, pooled = self._n_patches, self._pooled
        if not len(pooled):
            return torch.stack(self._blocks), pooled, self._of_query(self._product)
        n_keys = pooled.shape[1]  # a pool may leave class tokens and registers out
        rollout = pooled.mean(dim=0) @ self._product[-n_keys:]
        return torch.stack(self._blocks), pooled[:, -n_patches:], rollout[-n_patches:]


def _matrix_of_product(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Tensor:
    """The attention matrix, mask and scale included: it is what attention makes of the unit matrix as values."""
    del value
    n_keys = key.shape[-2]
    unit = torch.eye(n_keys, dtype=key.dtype, device=key.device).expand(*key.shape[:-1], n_keys)
    return nn.functional.scaled_dot_product_attention(query, key, unit, *rest, **options)


def _matrix_of_layer(*args: Any, **options: Any) -> Tensor:
    """The attention matrix of ``torch.nn.MultiheadAttention``, which can return it."""
    matrix = nn.functional.multi_head_attention_forward(
        *args, **options | {"need_weights": True, "average_attn_weights": False}
    )[1]
    assert matrix is not None  # noqa: S101 (it was asked for)
    return matrix


_MATRICES: dict[Callable[..., Any], Callable[..., Tensor]] = {
    nn.functional.scaled_dot_product_attention: _matrix_of_product,
    nn.functional.multi_head_attention_forward: _matrix_of_layer,
}


def _refuse(spec: BackboneSpec, reason: str) -> NoReturn:
    raise BackboneError(
        f"{spec.name} has no attention to show: {reason}",
        where=spec.name,
        hint="Use a plain vision transformer, such as dinov2-s or siglip-b.",
    )
