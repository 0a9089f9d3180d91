from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.resnet import resnet18

from finetune.detection.body import load_body, shapes_of
from finetune.detection.detector import Architecture, Detector, StridedAnchors, lies_in, spare_ignored

SMALL = Architecture(channels=16, hidden=32, regions=32)
STAGES = {f"layer{n + 1}": str(n) for n in range(4)}


def target(*boxes, ignored=()):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "ignored": torch.tensor(ignored, dtype=torch.float32).view(-1, 4),
    }


@pytest.fixture
def pair():
    """torchvision's own Faster R-CNN, and ours with the same weights."""
    torch.manual_seed(0)
    theirs = FasterRCNN(
        BackboneWithFPN(resnet18(weights=None), STAGES, [64, 128, 256, 512], SMALL.channels),
        rpn_anchor_generator=AnchorGenerator(((16,), (32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 5),
        box_head=TwoMLPHead(SMALL.channels * 49, SMALL.hidden),
        box_predictor=FastRCNNPredictor(SMALL.hidden, 4),
        box_batch_size_per_image=SMALL.regions,
        rpn_pre_nms_top_n_train=125, rpn_post_nms_top_n_train=125,
        min_size=64, max_size=64, image_mean=[0.0] * 3, image_std=[1.0] * 3,
    )  # fmt: skip
    body = theirs.backbone.body.eval()
    with torch.no_grad():
        shapes = {name: tuple(one.shape[1:]) for name, one in body(torch.zeros(1, 3, 64, 64)).items()}
    ours = Detector(body, shapes, 64, 3, SMALL)
    ours.pyramid.load_state_dict(theirs.backbone.fpn.state_dict())
    ours.proposals.load_state_dict(theirs.rpn.state_dict())
    ours.heads.load_state_dict(theirs.roi_heads.state_dict())
    return theirs, ours


def test_detections_are_those_of_torchvision(pair):
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = (model.eval()(given) for model, given in zip(pair, (list(images), images), strict=True))
    assert len(found[0]["boxes"]) > 10
    for one, other in zip(expected, found, strict=True):
        for name in ("boxes", "labels", "scores"):
            torch.testing.assert_close(other[name], one[name])


def test_losses_are_those_of_torchvision(pair):
    """The same draws of anchors and proposals from the same seed; torchvision draws a size for each image before."""
    images, targets = torch.rand(2, 3, 64, 64), [target([4, 4, 30, 28], [30, 30, 60, 50]), target()]
    losses = []
    for model, given in zip(pair, (list(images), images), strict=True):
        torch.manual_seed(1)
        if model is pair[1]:
            for _ in images:
                torch.empty(1).uniform_()
        losses.append(model.train()(given, targets))
    assert losses[0].keys() == losses[1].keys()
    for name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][name], loss)


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_efficientnet"])
def test_feature_maps_stand_for_images(name):
    """The seam to stored features: images, and the maps of these images, give the same detections and losses."""
    body = load_body(name, "frozen", 64, weights="random:0")
    torch.manual_seed(0)
    detector = Detector(body, shapes_of(body, 64), 64, 1, SMALL)
    images, targets = torch.rand(2, 3, 64, 64), [target([5, 5, 30, 30]), target()]
    for mode in (True, False):
        detector.train(mode)
        results = []
        for inputs in (images, body(images)):
            torch.manual_seed(1)
            results.append(detector(inputs, targets if mode else None))
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_anchors_of_a_fractional_stride_cover_the_image():
    """Patches of 14 pixels: torchvision's own anchors would stop at 3 x 63 = 189 of 224 pixels."""
    strides = (3.5, 7, 14, 28, 56)
    maps = [torch.zeros(1, 1, size, size) for size in (64, 32, 16, 8, 4)]
    anchors = StridedAnchors([4 * stride for stride in strides], strides)
    frame = ImageList(maps[0], [(224, 224)])
    (boxes,) = anchors(frame, maps)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    first = centres[: 64 * 64 * 3].view(64, 64, 3, 2)
    torch.testing.assert_close(first[0, :, 0, 0], torch.arange(64) * 3.5)
    torch.testing.assert_close(first[:, 0, 0, 1], torch.arange(64) * 3.5)
    assert len(boxes) == 3 * sum(size**2 for size in (64, 32, 16, 8, 4))


@pytest.mark.parametrize(("patch", "side"), [(14, 224), (16, 256)])
def test_regions_are_pooled_where_they_are(patch, side):
    """A map that holds its own x in pixels: what is pooled from a box is the middle of the box, on every level."""
    grid = side // patch
    detector = Detector(None, {"last": (8, grid, grid)}, side, 1, SMALL)
    strides = [patch / 4, patch / 2, patch, 2 * patch]
    levels = {}
    for name, stride in zip("0123", strides, strict=True):
        size = round(side / stride)
        levels[name] = ((torch.arange(size) + 0.5) * stride).expand(1, 1, size, size)
    boxes = torch.tensor([[20.0, 10, 60, 40], [10, 10, 130, 140], [40, 5, 200, 200]])
    pooled = detector.heads.box_roi_pool(levels, [boxes], [(side, side)]).mean(dim=(1, 2, 3))
    levels_of = detector.heads.box_roi_pool.map_levels([boxes])
    half = torch.tensor(strides)[levels_of] / 2  # torchvision aligns with the corner of a cell
    torch.testing.assert_close(pooled - half, (boxes[:, 0] + boxes[:, 2]) / 2)


def test_share_in_regions():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 20], [50, 50, 60, 60], [5, 0, 15, 10]])
    regions = torch.tensor([[0.0, 0, 10, 10], [55, 50, 70, 70]])
    assert lies_in(boxes, regions).tolist() == [True, False, False, False]
    assert lies_in(boxes, regions[:0]).tolist() == [False] * 4


def test_ignored_regions_are_no_background():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 9, 9], [50, 50, 60, 60], [2, 2, 8, 8]])
    labels = torch.tensor([0, 2, 0, -1])
    spare_ignored(labels, boxes, torch.tensor([[0.0, 0, 20, 20]]))
    assert labels.tolist() == [-1, 2, 0, -1]
    everywhere = torch.zeros(4, dtype=torch.int64)
    spare_ignored(everywhere, boxes, torch.tensor([[0.0, 0, 99, 99]]))
    assert everywhere.tolist() == [0] * 4


@pytest.mark.parametrize("ignored", [True, False])
def test_ignored_regions_reach_both_networks(monkeypatch, ignored):
    """No anchor and no proposal is sampled as background where the region covers the whole image."""
    detector = Detector(None, {"last": (8, 4, 4)}, 64, 1, SMALL).train()
    seen = []
    for part in (detector.proposals, detector.heads):
        sampler = part.fg_bg_sampler
        monkeypatch.setattr(part, "fg_bg_sampler", lambda labels, own=sampler: (seen.append(labels), own(labels))[1])
    given = target([40, 40, 60, 60], ignored=[[0, 0, 64, 64]] if ignored else [])
    detector({"last": torch.randn(1, 8, 4, 4)}, [given])
    assert len(seen) == 2
    inside = [(labels == 0).sum() for (labels,) in seen]
    assert all((labels > 0).any() for (labels,) in seen)
    # what hangs over the edge of the image is clipped for proposals, and not for anchors
    assert inside[1] == 0 if ignored else inside[1] > 0
    assert inside[0] < 600 if ignored else inside[0] > 600


@pytest.mark.parametrize("targets", [[target(), target()], [target(ignored=[[0, 0, 64, 64]])] * 2])
def test_images_without_objects_have_finite_losses(targets):
    detector = Detector(None, {"last": (8, 4, 4)}, 64, 2, SMALL).train()
    losses = detector({"last": torch.randn(2, 8, 4, 4)}, targets)
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_size_of_the_published_detector():
    """Pyramid, proposals and heads of torchvision's detector on ResNet-50 have as many parameters as ours."""
    theirs = FasterRCNN(_Named(nn.Identity(), 256), num_classes=2)
    shapes = {str(n): (256 * 2**n, 64 // 2**n, 64 // 2**n) for n in range(4)}
    with torch.device("meta"):
        ours = Detector(None, shapes, 256, 1)

    def size(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert size(ours.proposals) == size(theirs.rpn)
    assert size(ours.heads) == size(theirs.roi_heads)
    assert size(ours.pyramid) == sum(256 * 2**n * 256 + 256 + 256 * 256 * 9 + 256 for n in range(4))


class _Named(nn.Module):
    def __init__(self, body, out_channels):
        super().__init__()
        self.body, self.out_channels = body, out_channels
