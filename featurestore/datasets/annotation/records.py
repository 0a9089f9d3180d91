"""What an annotation file says: images, and boxes in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, NamedTuple

LARGEST = 2**31 - 1
"""Pixels that no side of an image exceeds."""

Edges = tuple[float, float, float, float]

NO_BOX: Edges = (nan, nan, nan, nan)
"""Edges of an object that is annotated without a box, as by a polygon alone: it will be left out, and counted."""


@dataclass(frozen=True)
class AnnotatedObject:
    """One box.

    Attributes:
        xyxy: Pixel edges x0, y0, x1, y1, (0, 0) the outer corner of the first pixel; y counts as the image's
            `box_origin` says.
        category: Name of its class.
        crowd: Whether the region is neither object nor background: a crowd, a difficult object, one to be ignored.
    """

    xyxy: Edges
    category: str
    crowd: bool


@dataclass(frozen=True)
class AnnotatedImage:
    """One image with its boxes.

    Attributes:
        path: Relative POSIX path of the image.
        split: Name of its split in a sample table.
        height: Height in pixels that boxes were drawn in, or None where the annotation does not say.
        objects: Its boxes, in the order of the annotation.
        box_origin: ``upper`` or ``lower``; None: lower for FITS and upper for pictures.
        group: What it belongs to together with other images, such as the image that it was cut from; empty: nothing.
        width: Width in pixels, or None.
    """

    path: str
    split: str
    height: int | None
    objects: tuple[AnnotatedObject, ...]
    box_origin: str | None = None
    group: str = ""
    width: int | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height that the annotation states, or None."""
        return (self.width, self.height) if self.width and self.height else None


class Annotations(NamedTuple):
    """What the annotations of a folder say.

    Attributes:
        images: Annotated images, whose order becomes that of the samples.
        classes: Class names of the boxes.
        notice: What the user should know of them.
    """

    images: Sequence[AnnotatedImage]
    classes: tuple[str, ...]
    notice: str = ""


def as_side(value: Any) -> int | None:
    """A width or height in pixels as an annotation states it; None where it states none, or zero.

    Raises:
        ValueError: It is not a number of pixels.
    """
    side = float(str(value or 0))
    if not (0 <= side <= LARGEST and side.is_integer()):
        raise ValueError("a width or height is not a number of pixels")
    return int(side) or None


def as_flag(value: Any) -> bool:
    """Whether a field such as ``iscrowd`` or ``difficult`` is set, by a number, a truth value or their text."""
    return str(value).strip().lower() in ("1", "1.0", "true", "yes")
