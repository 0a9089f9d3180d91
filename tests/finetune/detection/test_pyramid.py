from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import resnet18

from featurestore.errors import BackboneError
from finetune.detection.pyramid import LEVELS, SimpleFeaturePyramid, make_pyramid


class _ChannelNorm(nn.Module):
    """The layer norm of the published code: over channels, eps 1e-6."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        centred = x - x.mean(1, keepdim=True)
        x = centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


def published(width, channels=256):
    """The levels as ViTDet's published configuration lists them, in plain layers."""

    def out(after):
        return [
            nn.Conv2d(after, channels, 1, bias=False), _ChannelNorm(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), _ChannelNorm(channels),
        ]  # fmt: skip

    up = nn.ConvTranspose2d
    return nn.ModuleList([
        nn.Sequential(up(width, width // 2, 2, 2), _ChannelNorm(width // 2), nn.GELU(),
                      up(width // 2, width // 4, 2, 2), *out(width // 4)),
        nn.Sequential(up(width, width // 2, 2, 2), *out(width // 2)),
        nn.Sequential(*out(width)),
        nn.Sequential(nn.MaxPool2d(2, 2), *out(width)),
    ])  # fmt: skip


def test_simple_pyramid_computes_what_was_published():
    torch.manual_seed(0)
    ours, theirs = SimpleFeaturePyramid(64, 32), published(64, 32)
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine.normal_())
    last = torch.randn(2, 64, 6, 6)
    levels = ours({"last": last})
    for name, level in zip(LEVELS, theirs, strict=False):
        torch.testing.assert_close(levels[name], level(last))
    assert torch.equal(levels["pool"], levels["3"][:, :, ::2, ::2])


def test_parameter_count_of_a_vit_b():
    """Counted by hand from the published layers: D = 768, 256 channels."""
    width, channels = 768, 256
    up4 = width * 384 * 4 + 384 + 2 * 384 + 384 * 192 * 4 + 192
    up2 = width * 384 * 4 + 384
    widths = (192, 384, 768, 768)
    out = sum(after * channels + 2 * channels + channels * channels * 9 + 2 * channels for after in widths)
    assert sum(p.numel() for p in SimpleFeaturePyramid(width).parameters()) == up4 + up2 + out


@pytest.mark.parametrize(("side", "patch", "strides"), [(224, 16, (4, 8, 16, 32, 64)), (224, 14, (3.5, 7, 14, 28, 56))])
def test_strides_scale_with_the_patch(side, patch, strides):
    grid = side // patch
    pyramid, found = make_pyramid({"last": (48, grid, grid)}, side, channels=16)
    levels = pyramid({"last": torch.zeros(1, 48, grid, grid)})
    assert found == strides
    assert tuple(levels) == LEVELS
    assert [level.shape[1] for level in levels.values()] == [16] * 5
    assert [level.shape[-1] for level in levels.values()] == [4 * grid, 2 * grid, grid, grid // 2, -(-(grid // 2) // 2)]


def test_stages_get_torchvisions_pyramid():
    """The same maps as torchvision's own network of backbone and pyramid, once the weights are the same."""
    torch.manual_seed(0)
    stages = {f"layer{n + 1}": str(n) for n in range(4)}
    whole = BackboneWithFPN(resnet18(weights=None), stages, [64, 128, 256, 512], 256).eval()
    images = torch.randn(1, 3, 64, 64)
    maps = whole.body(images)
    pyramid, strides = make_pyramid({name: tuple(one.shape[1:]) for name, one in maps.items()}, 64)
    pyramid.load_state_dict(whole.fpn.state_dict())
    assert strides == (4, 8, 16, 32, 64)
    expected, found = whole(images), pyramid(maps)
    assert tuple(found) == tuple(expected) == LEVELS
    assert all(torch.equal(found[name], expected[name]) for name in LEVELS)


def test_other_strides_are_refused():
    shapes = OrderedDict({str(n): (8, size, size) for n, size in enumerate((19, 10, 5, 3))})
    with pytest.raises(BackboneError, match=r"strides 3\.94.*Give a side that is a multiple of 32"):
        make_pyramid(shapes, 75)
