"""Augmentation of images with boxes: flips, quarter turns, blur, contrast and jitter, by torchvision's transforms."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from featurestore.options import Amount, Share, options

_QUARTERS = (0.0, 90.0, 180.0, 270.0)
_BLUR_KERNEL = 5


@options
class Augmentation:
    """What happens to a training image; the boxes move along with flips and turns.

    Turns are by quarters of a circle alone: at any other angle the upright box around a turned box is larger than the
    source in it. The draws come from torch's global generator, so that seeding it repeats them.

    Attributes:
        flips: Whether each axis is flipped with probability 1/2.
        turns: Whether the image is turned by 0, 90, 180 or 270 degrees, each equally likely.
        blur: Largest standard deviation of a Gaussian blur, in pixels, applied to half of the images; 0: none.
        contrast: Largest relative change of contrast; 0: none.
        jitter: Largest relative change of brightness; 0: none.
    """

    flips: bool = True
    turns: bool = True
    blur: Amount = 1.0
    contrast: Share = 0.2
    jitter: Share = 0.2

    def __call__(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """An augmented copy.

        Args:
            image: float32 (3, S, S) in [0, 1].
            boxes: float32 (k, 4), x0, y0, x1, y1 in pixels.
        """
        canvas = (image.shape[-2], image.shape[-1])
        moved = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas)
        new_image, new_boxes = self._transform()(tv_tensors.Image(image), moved)
        return new_image.as_subclass(torch.Tensor), new_boxes.as_subclass(torch.Tensor)

    def _transform(self) -> v2.Transform:
        steps: list[v2.Transform] = [v2.Identity()]
        if self.flips:
            steps += [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
        if self.turns:
            steps.append(v2.RandomChoice([v2.RandomRotation((angle, angle)) for angle in _QUARTERS]))
        if self.blur:
            steps.append(v2.RandomApply([v2.GaussianBlur(_BLUR_KERNEL, (0.1, max(0.1, self.blur)))]))
        if self.contrast or self.jitter:
            steps.append(v2.ColorJitter(brightness=self.jitter, contrast=self.contrast))
        return v2.Compose(steps)


def augment_target(
    augmentation: Augmentation, image: Tensor, target: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """An augmented image, and its target with objects and ignored regions moved along."""
    n_objects = len(target["boxes"])
    image, moved = augmentation(image, torch.cat([target["boxes"], target["ignored"]]))
    return image, {**target, "boxes": moved[:n_objects], "ignored": moved[n_objects:]}
