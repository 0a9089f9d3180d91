"""Detector: Faster R-CNN of torchvision's parts on a pyramid of feature maps, computed or stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from featurestore.options import Count, Rate, options
from finetune.detection.pyramid import CHANNELS, LEVELS, Shapes, make_pyramid

Target = Mapping[str, Tensor]
"""What is known of one image, in pixels of the square input: ``boxes``, float32 (k, 4) as x0, y0, x1, y1; ``labels``,
int64 (k,) from 1, as 0 is the background; ``ignored``, float32 (i, 4), regions that are neither of both."""

ASPECTS = (0.5, 1.0, 2.0)
"""Height over width of the anchors."""

IGNORED_SHARE = 0.5
"""An anchor or proposal with more than this share of its area in one ignored region is not background."""

PROPOSALS = 2000 / 512
"""Proposals of a training image for each region that trains, as published."""

TESTED = 10
"""Proposals of a tested image for each detection that may come of it, as published (1000 for 100)."""


@options
class Architecture:
    """Sizes of what stands on the backbone. All but `anchor_scale` are as published.

    Attributes:
        channels: Width of the pyramid.
        hidden: Width of the two layers that look at a region.
        regions: Proposals of an image that train these layers, drawn from about four times as many; most of the time
            of a step on a CPU goes here.
        anchor_scale: Side of an anchor over the stride of its level. Published is 8, for photographs; radio sources
            are smaller: half of those in the FIRST fields of Radio Galaxy Zoo are under 27 pixels of 256.
    """

    channels: Count = CHANNELS
    hidden: Count = 1024
    regions: Count = 512
    anchor_scale: Rate = 4.0


DEFAULT = Architecture()


class Detector(nn.Module):
    """Faster R-CNN (Ren et al. 2015, https://arxiv.org/abs/1506.01497) with a feature pyramid.

    The parts and their settings are those of `torchvision.models.detection.fasterrcnn_resnet50_fpn`, except for smaller
    anchors; that anchors and pooled regions follow the true strides (torchvision rounds them, which is wrong for
    patches of 14 pixels); that what lies in an ignored region does not train as background; and that images come at
    one size, so that nothing is resized again.

    Args:
        body: From images float (B, 3, S, S) in [0, 1] to feature maps by name; None for a detector that is only ever
            given feature maps.
        shapes: Shapes of the feature maps of one image.
        side: S.
        n_classes: Number of classes without the background.
        architecture: Sizes of what stands on the maps.
        limit: Detections of an image at most; see `finetune.detection.evaluation.detection_limit`.

    Raises:
        BackboneError: Maps that no pyramid can be made of.
    """

    def __init__(
        self,
        body: nn.Module | None,
        shapes: Shapes,
        side: int,
        n_classes: int,
        architecture: Architecture = DEFAULT,
        limit: int = 100,
    ) -> None:
        super().__init__()
        self.side = side
        self.body = body
        self.pyramid, strides = make_pyramid(shapes, side, architecture.channels)
        self.proposals = _proposal_network(strides, architecture, limit)
        self.heads = _region_heads(strides, n_classes, architecture, limit)

    def forward(self, inputs: Tensor | Mapping[str, Tensor], targets: Sequence[Target] | None = None) -> Any:
        """Losses in training mode, detections in eval mode.

        Args:
            inputs: Images, float (B, 3, S, S) in [0, 1], or the feature maps of B images by name, float (B, C, h, w).
            targets: One for each image; needed in training mode.

        Returns:
            In training mode name -> scalar loss, four of them; else for each image a dict of ``boxes`` float (m, 4)
            inside the square, ``labels`` int64 (m,) from 1 and ``scores`` float (m,) in (0, 1], best first.
        """
        maps = self.body(inputs) if isinstance(inputs, Tensor) and self.body is not None else inputs
        levels = self.pyramid(maps)
        n_images = len(levels[LEVELS[0]])
        frame = ImageList(levels[LEVELS[0]], [(self.side, self.side)] * n_images)
        proposals, losses = self.proposals(frame, levels, targets)
        detections, head_losses = self.heads(levels, proposals, frame.image_sizes, targets)
        return {**losses, **head_losses} if self.training else detections


class StridedAnchors(AnchorGenerator):
    """Anchors at stated strides; torchvision takes the rounded quotient of image and map, which drifts.

    Args:
        sizes: Sides of the anchors of each level, in pixels.
        strides: Stride of each level, in pixels.
    """

    def __init__(self, sizes: Sequence[float], strides: Sequence[float]) -> None:
        super().__init__(tuple((size,) for size in sizes), (ASPECTS,) * len(sizes))
        self.strides = [(stride, stride) for stride in strides]

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Anchors (n, 4) of each image, level by level."""
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        anchors = torch.cat(self.grid_anchors([one.shape[-2:] for one in feature_maps], self.strides))
        return [anchors] * len(image_list.image_sizes)


class ProposalNetwork(RegionProposalNetwork):
    """Region proposals; anchors in ignored regions are no background."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Labels (1 object, 0 background, -1 neither) and matched boxes, for each image."""
        labels, matched = super().assign_targets_to_anchors(anchors, targets)
        for label, own, target in zip(labels, anchors, targets, strict=True):
            spare_ignored(label, own, target["ignored"])
        return labels, matched


class RegionHeads(RoIHeads):
    """Classes and boxes of the proposals; those in ignored regions are no background."""

    def select_training_samples(self, proposals: list[Tensor], targets: list[Target]) -> Any:
        """As the base class, which asks for labels without the whole targets at hand."""
        self.ignored = [target["ignored"] for target in targets]
        return super().select_training_samples(proposals, targets)

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Matched boxes and labels (-1 for neither object nor background), for each image."""
        matched, labels = super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        for label, own, regions in zip(labels, proposals, self.ignored, strict=True):
            spare_ignored(label, own, regions)
        return matched, labels


def spare_ignored(labels: Tensor, boxes: Tensor, regions: Tensor) -> None:
    """Turn background (0) in ignored regions to neither (-1), in place.

    An image in which nothing else would be left keeps its background: a mean loss over nothing is not a number.

    Args:
        labels: (n,), of anchors or proposals.
        boxes: float (n, 4).
        regions: float (i, 4).
    """
    spared = (labels == 0) & lies_in(boxes, regions)
    if ((labels >= 0) & ~spared).any():
        labels[spared] = -1


def lies_in(boxes: Tensor, regions: Tensor) -> Tensor:
    """Whether more than `IGNORED_SHARE` of the area of each box lies in one of the regions, bool (n,).

    Args:
        boxes: float (n, 4).
        regions: float (i, 4).
    """
    if not len(regions):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    corner = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    opposite = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = (opposite - corner).clamp(min=0).prod(dim=-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1)
    return (shared > IGNORED_SHARE * area[:, None]).any(dim=1)


def _proposal_network(strides: Sequence[float], architecture: Architecture, limit: int) -> ProposalNetwork:
    n_proposals, n_tested = round(PROPOSALS * architecture.regions), TESTED * limit
    anchors = StridedAnchors([architecture.anchor_scale * stride for stride in strides], strides)
    return ProposalNetwork(
        anchors,
        RPNHead(architecture.channels, len(ASPECTS)),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": n_proposals, "testing": n_tested},
        post_nms_top_n={"training": n_proposals, "testing": n_tested},
        nms_thresh=0.7,
    )


def _region_heads(strides: Sequence[float], n_classes: int, architecture: Architecture, limit: int) -> RegionHeads:
    pool = MultiScaleRoIAlign(LEVELS[:-1], output_size=7, sampling_ratio=2)
    pool.scales = [1 / stride for stride in strides[:-1]]
    pool.map_levels = initLevelMapper(2, 1 + len(pool.scales))  # a region of 224 px belongs to level 4, as published
    return RegionHeads(
        pool,
        TwoMLPHead(architecture.channels * 7 * 7, architecture.hidden),
        FastRCNNPredictor(architecture.hidden, n_classes + 1),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=architecture.regions,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=0.05,
        nms_thresh=0.5,
        detections_per_img=limit,
    )
