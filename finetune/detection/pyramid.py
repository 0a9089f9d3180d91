"""Feature pyramids: from the maps of a backbone to five maps of equal width, strides doubling from one to the next."""

from __future__ import annotations

from collections.abc import Mapping

from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from featurestore.errors import BackboneError

Shapes = Mapping[str, tuple[int, int, int]]
"""Name of a feature map -> its channels, height and width; from fine to coarse."""

CHANNELS = 256
"""Width of every map of a pyramid, as published."""

LEVELS = ("0", "1", "2", "3", "pool")
"""Names of the maps of a pyramid, from fine to coarse; torchvision's own."""

_SCALES = (4.0, 2.0, 1.0, 0.5)
"""Size of the maps of the simple pyramid before the pooled one, relative to the patch grid."""

_STRIDES = (4, 8, 16, 32)
"""Strides in pixels that the hierarchical pyramid expects of the stages of a CNN."""


class SimpleFeaturePyramid(nn.Module):
    """The pyramid of a plain vision transformer, made from its last map alone.

    Scales 4 and 2 come from transposed convolutions with 2 x 2 kernels, 1/2 from max pooling; each is then brought to
    the common width by a 1 x 1 and a 3 x 3 convolution with layer norm and no bias. The fifth map is every second
    value of the fourth. With patches of 16 pixels the strides are 4, 8, 16, 32 and 64; they scale with the patch.

    Source: Li et al. 2022, Exploring Plain Vision Transformer Backbones for Object Detection (ViTDet),
    https://arxiv.org/abs/2203.16527, section 3 and appendix A.2.

    Args:
        in_channels: Width of the transformer.
        channels: Width of the pyramid.
    """

    def __init__(self, in_channels: int, channels: int = CHANNELS) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level(scale, in_channels, channels) for scale in _SCALES)
        self.coarsest = LastLevelMaxPool()
        self.out_channels = channels

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Five maps from one.

        Args:
            maps: One map, float (B, in_channels, h, w), under any name.

        Returns:
            Names of `LEVELS` -> float (B, channels, h', w'); h' is 4 h, 2 h, h, h // 2 and half of that, rounded up.
        """
        (last,) = maps.values()
        levels = [level(last) for level in self.levels]
        maps, names = self.coarsest(levels, levels, list(LEVELS[:-1]))
        return dict(zip(names, maps, strict=True))


def make_pyramid(shapes: Shapes, side: int, channels: int = CHANNELS) -> tuple[nn.Module, tuple[float, ...]]:
    """The pyramid for these maps and the strides of its levels in pixels.

    One map is that of a vision transformer and gets the simple pyramid; four are the stages of a CNN and get
    torchvision's hierarchical one (Lin et al. 2017, https://arxiv.org/abs/1612.03144) with the same pooled level.

    Args:
        shapes: Shapes of the backbone's maps.
        side: Side of the square input image in pixels.
        channels: Width of the pyramid.

    Raises:
        BackboneError: Maps of other strides than those of a patch grid or of four stages.
    """
    if len(shapes) == 1:
        ((in_channels, height, _),) = shapes.values()
        scales = (*_SCALES, _SCALES[-1] / 2)
        return SimpleFeaturePyramid(in_channels, channels), tuple(side / height / scale for scale in scales)
    strides = [side / height for _, height, _ in shapes.values()]
    if strides != list(_STRIDES):
        raise BackboneError(
            f"the backbone's maps have strides {', '.join(f'{stride:g}' for stride in strides)}, not 4, 8, 16 and 32",
            where=f"resize={side}",
            hint="Give a side that is a multiple of 32, and a CNN with four such stages.",
        )
    widths = [width for width, _, _ in shapes.values()]
    pyramid = FeaturePyramidNetwork(widths, channels, extra_blocks=LastLevelMaxPool())
    return pyramid, (*strides, 2 * strides[-1])


def _level(scale: float, width: int, channels: int) -> nn.Sequential:
    resample, out_width = _resampling(scale, width)
    return nn.Sequential(
        *resample,
        nn.Conv2d(out_width, channels, 1, bias=False),
        LayerNorm2d(channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        LayerNorm2d(channels),
    )


def _resampling(scale: float, width: int) -> tuple[list[nn.Module], int]:
    """Layers that bring the last map to a scale, and the width that they leave."""
    half, quarter = width // 2, width // 4
    if scale == 4.0:
        first, second = nn.ConvTranspose2d(width, half, 2, 2), nn.ConvTranspose2d(half, quarter, 2, 2)
        return [first, LayerNorm2d(half), nn.GELU(), second], quarter
    if scale == 2.0:
        return [nn.ConvTranspose2d(width, half, 2, 2)], half
    return ([nn.MaxPool2d(2, 2)] if scale == 0.5 else []), width
