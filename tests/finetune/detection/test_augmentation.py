from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from finetune.detection.augmentation import Augmentation, augment_target

SIDE = 32
SHAPE_ONLY = Augmentation(blur=0, contrast=0, jitter=0)
PIXELS_ONLY = Augmentation(flips=False, turns=False)

whole_boxes = st.lists(
    st.tuples(*[st.integers(0, SIDE - 2)] * 2, *[st.integers(1, SIDE)] * 2), min_size=1, max_size=4
).map(lambda given: [(x, y, min(x + w, SIDE), min(y + h, SIDE)) for x, y, w, h in given])


def paint(boxes):
    """One channel-wise image a box: 1 inside, 0 outside."""
    image = torch.zeros(len(boxes), SIDE, SIDE)
    for plane, (x0, y0, x1, y1) in zip(image, boxes, strict=True):
        plane[y0:y1, x0:x1] = 1
    return image


def boxes_around(image):
    """The box around what is painted in each plane."""
    found = []
    for plane in image.numpy():
        y, x = np.nonzero(plane > 0.5)
        found.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    return torch.tensor(np.array(found, dtype=np.float32))


@given(whole_boxes, st.integers(0, 2**32 - 1))
def test_boxes_move_with_what_is_in_them(boxes, seed):
    """The pixels are the oracle: a painted box is found where the moved box says."""
    torch.manual_seed(seed)
    image, moved = SHAPE_ONLY(paint(boxes), torch.tensor(boxes, dtype=torch.float32))
    torch.testing.assert_close(moved, boxes_around(image), atol=1e-3, rtol=0)


@given(whole_boxes, st.sampled_from([90, 180, 270]))
def test_turned_and_turned_back(boxes, angle):
    given_boxes = torch.tensor(boxes, dtype=torch.float32)
    box = tv_tensors.BoundingBoxes(given_boxes, format="XYXY", canvas_size=(SIDE, SIDE))
    back = F.rotate(F.rotate(box, angle), -angle)
    torch.testing.assert_close(back.as_subclass(torch.Tensor), given_boxes, atol=1e-3, rtol=0)


def test_every_flip_and_turn_occurs():
    """A corner box has eight images under flips and quarter turns of a rectangle, told apart by corner and shape."""
    box = torch.tensor([[0.0, 0.0, 4.0, 8.0]])
    seen = set()
    for seed in range(100):
        torch.manual_seed(seed)
        seen.add(tuple(SHAPE_ONLY(torch.zeros(3, SIDE, SIDE), box)[1].round().int().flatten().tolist()))
    assert len(seen) == 8


def test_pixels_change_and_boxes_do_not():
    torch.manual_seed(0)
    image, boxes = torch.rand(3, SIDE, SIDE), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    changed, same = PIXELS_ONLY(image, boxes)
    assert not torch.equal(changed, image)
    assert torch.equal(same, boxes)
    assert type(changed) is type(same) is torch.Tensor
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_the_same_seed_draws_the_same():
    image, boxes = torch.rand(3, SIDE, SIDE), torch.tensor([[1.0, 2.0, 9.0, 4.0]])
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(Augmentation()(image, boxes))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_to_do_and_no_boxes(count):
    image, boxes = torch.rand(3, SIDE, SIDE), torch.arange(4.0 * count).view(count, 4)
    same, kept = Augmentation(False, False, 0, 0, 0)(image, boxes)
    assert torch.equal(same, image)
    assert torch.equal(kept, boxes)
    assert Augmentation()(image, boxes)[1].shape == (count, 4)


def test_objects_and_regions_of_a_target_move_together():
    target = {
        "boxes": torch.tensor([[1.0, 2, 5, 8]]), "labels": torch.tensor([2]), "ignored": torch.tensor([[0.0, 0, 4, 4]]),
    }  # fmt: skip
    torch.manual_seed(1)
    _, moved = augment_target(SHAPE_ONLY, torch.zeros(3, SIDE, SIDE), target)
    torch.manual_seed(1)
    _, together = SHAPE_ONLY(torch.zeros(3, SIDE, SIDE), torch.cat([target["boxes"], target["ignored"]]))
    assert not torch.equal(moved["boxes"], target["boxes"])
    assert torch.equal(torch.cat([moved["boxes"], moved["ignored"]]), together)
    assert moved["labels"] is target["labels"]
