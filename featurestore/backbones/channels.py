"""Images of other than three bands: the input layer of a backbone inflated to as many channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from featurestore.backbones.base import N_COLOURS
from featurestore.errors import BackboneError


def inflate_input(tokens: nn.Module, n_channels: int) -> None:
    """Let a backbone made for three channels take `n_channels`.

    The rule is that of timm (`timm.models.adapt_input_conv`): the weights of the input layer are repeated, channel i
    getting those of i modulo 3, and multiplied by 3 / n, so that what follows sees values of the usual size. A layer
    with such weights is the given layer after a fixed mix of the channels, which goes in front here: so it works for
    every library, and for input layers that are not convolutions.

    A model that normalises inside (RADIO with its own code) does so after the mix.

    Args:
        tokens: From normalised images, float (B, 3, H, W); afterwards of (B, n_channels, H, W).
        n_channels: How many channels the images have, two or more.

    Raises:
        BackboneError: There is no second channel.
    """
    if n_channels < 2:
        raise BackboneError(
            "an input layer is inflated to two channels or more",
            where=f"n_channels={n_channels}",
            hint="Repeat a single band to three, as the preprocessing does.",
        )
    channels = torch.arange(n_channels)
    mix = (channels % N_COLOURS == torch.arange(N_COLOURS)[:, None]) * (N_COLOURS / n_channels)
    tokens.register_buffer("channel_mix", mix[:, :, None, None], persistent=False)
    tokens.register_forward_pre_hook(_mix)


def _mix(tokens: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    images, *others = given
    return conv2d(images, tokens.channel_mix.to(images.dtype)), *others
