"""From a dataset with boxes to annotated images, and from these to the images and targets that a detector trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore.datasets.base import ImageDataset
from featurestore.errors import LabelMismatchError, PreprocessingError, UnreadableImageError, UsageError
from featurestore.preprocessing import ORIENTATIONS, Preprocessing
from featurestore.registry import unknown_name
from featurestore.samples import Boxes, SampleTable
from finetune.data.images import check_channels
from probes.sweep.splits import Rows

VIEWS = ("all", "source")
"""Classes of a detector: those of the boxes, or a single one for every object."""

STRATA = "detection"
"""Name of the label scheme by which the rows of a detection set are divided: the class of an image's largest object."""

EMPTY = "empty"
"""Stratum of the images without an object."""

MIN_SIDE = 1.0
"""A box that is narrower or lower than this many pixels of its image, after clipping, is degenerate."""

_NO_BOXES = np.empty((0, 4), dtype=np.float32)


@dataclass(frozen=True)
class AnnotatedImage:
    """One image and what is annotated in it. Boxes are x0, y0, x1, y1 in pixels of the image as it was read.

    Attributes:
        row: Row of the dataset.
        sample_id: Its id.
        size: Height and width in pixels.
        boxes: float32 (k, 4), clipped to the image.
        labels: int64 (k,), index into the classes of the annotation set.
        crowd: bool (k,), regions that are neither object nor background.
        flux: float64 (k,), see `box_fluxes`.
    """

    row: int
    sample_id: str
    size: tuple[int, int]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    flux: NDArray[np.float64]


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image.

    Attributes:
        boxes: float32 (m, 4), x0, y0, x1, y1 in pixels of the image as it was read.
        labels: int64 (m,), index into the classes.
        scores: float32 (m,), in (0, 1].
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class AnnotationSet:
    """The annotated images of some rows, and what had to be left out.

    Attributes:
        classes: Names of the classes.
        images: Readable ones, in the order of the rows.
        unreadable: Sample id -> why its image cannot be read or preprocessed.
        n_clipped: Boxes that left their image and were cut at its edge.
        n_degenerate: Boxes that were dropped: not finite, or smaller than `MIN_SIDE` after clipping.
    """

    classes: tuple[str, ...]
    images: tuple[AnnotatedImage, ...]
    unreadable: Mapping[str, str]
    n_clipped: int
    n_degenerate: int

    @property
    def has_objects(self) -> bool:
        """Whether there is anything to find."""
        return any(not truth.crowd.all() for truth in self.images)

    def describe(self) -> str:
        """What was clipped and dropped, as a sentence; empty if nothing was."""
        clipped = f"{self.n_clipped} boxes left their image and were clipped" if self.n_clipped else ""
        dropped = (
            f"{self.n_degenerate} degenerate boxes (under {MIN_SIDE:g} px inside the image) were dropped"
            if self.n_degenerate
            else ""
        )
        return "; ".join(filter(None, (clipped, dropped)))


class DetectionInputs(Protocol):
    """What a detector is trained on and tested with: images, or feature maps in their place.

    Attributes:
        annotated: What is in each.
    """

    annotated: Sequence[AnnotatedImage]

    @property
    def n_views(self) -> int:
        """How many views of each image there are."""
        ...

    @property
    def identity(self) -> list[str]:
        """What decides the values, for checkpoints."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """One view, numbered ``view * len(self) + image``, and its `finetune.detection.detector.Target`."""
        ...

    def collate(self, inputs: Sequence[Tensor]) -> Tensor | Mapping[str, Tensor]:
        """Some views, as the detector takes them."""
        ...


class DetectionImages:
    """Preprocessed images with their targets.

    Args:
        dataset: Where the images are read.
        annotated: What is in them.
        preprocessing: How an image becomes a square.
    """

    def __init__(
        self, dataset: ImageDataset, annotated: Sequence[AnnotatedImage], preprocessing: Preprocessing
    ) -> None:
        self.dataset, self.annotated, self.preprocessing = dataset, annotated, preprocessing

    def __len__(self) -> int:
        return len(self.annotated)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Image, float32 (3, S, S) in [0, 1], and its target."""
        truth = self.annotated[index]
        pixels = self.preprocessing.apply(self.dataset.read(truth.row).image, _NO_BOXES)
        return torch.from_numpy(np.ascontiguousarray(pixels)), make_target(truth, self.preprocessing)

    @property
    def n_views(self) -> int:
        """An image is looked at in one way."""
        return 1

    @property
    def identity(self) -> list[str]:
        """What decides the pixels, for checkpoints."""
        return [str(self.preprocessing)]

    def collate(self, images: Sequence[Tensor]) -> Tensor:
        """What the detector looks at: float32 (B, 3, S, S)."""
        return torch.stack(list(images))


def make_target(truth: AnnotatedImage, preprocessing: Preprocessing) -> dict[str, Tensor]:
    """The `finetune.detection.detector.Target` of an image, in pixels of the square that it becomes."""
    square = to_square(truth.boxes, truth.size, preprocessing.resize)
    boxes = torch.from_numpy(orient_boxes(square, preprocessing.orientation, preprocessing.resize))
    objects = torch.from_numpy(~truth.crowd)
    labels = torch.from_numpy(truth.labels + 1)
    return {"boxes": boxes[objects], "labels": labels[objects], "ignored": boxes[~objects]}


def orient_boxes(boxes: NDArray[np.float32], orientation: int, side: int) -> NDArray[np.float32]:
    """Boxes (k, 4) of a square, moved along with its pixels; see `featurestore.preprocessing.orient`."""
    x0, y0, x1, y1 = boxes.T
    if orientation >= ORIENTATIONS // 2:
        x0, x1 = side - x1, side - x0
    for _ in range(orientation % 4):
        x0, y0, x1, y1 = y0, side - x1, y1, side - x0
    return np.stack([x0, y0, x1, y1], axis=1)


def check_preprocessing(preprocessing: Preprocessing) -> None:
    """Refuse crops, since sources outside the crop would be lost, and orientations, in which boxes would be found.

    Raises:
        UsageError: The preprocessing crops or turns, or makes other than three channels.
    """
    check_channels(preprocessing)
    if preprocessing.orientation:
        raise UsageError(
            "a detector is tested on upright images",
            where=f"orientation={preprocessing.orientation}",
            hint="Leave the orientation out: --mode stored finds the other views by itself.",
        )
    if preprocessing.crop != "none":
        raise UsageError(
            "a detector looks at whole images", where=f"crop={preprocessing.crop}", hint="Use crop=none for detection."
        )


def read_annotations(
    dataset: ImageDataset, rows: Rows, preprocessing: Preprocessing, view: str = "all"
) -> AnnotationSet:
    """Read every image once, clip its boxes, and count what cannot be used.

    Args:
        dataset: Images with boxes.
        rows: int64 (n,), rows to look at.
        preprocessing: Has to be applicable; see `check_preprocessing`.
        view: ``all`` classes, or ``source``: one class for every object.

    Raises:
        LabelMismatchError: The dataset has no boxes.
        UnknownNameError: No such view.
        UsageError: The preprocessing crops.
    """
    check_preprocessing(preprocessing)
    table = dataset.table
    classes, boxes = class_names(table, view), boxes_of(table)
    boxes_by_row = np.split(np.argsort(boxes.row, kind="stable"), np.bincount(boxes.row, minlength=len(table)).cumsum())
    images: list[AnnotatedImage] = []
    unreadable: dict[str, str] = {}
    changed = np.zeros(2, dtype=np.int64)
    for row in rows.tolist():
        try:
            image = dataset.read(row).image
            preprocessing.apply(image, _NO_BOXES)
        except (UnreadableImageError, PreprocessingError) as error:
            unreadable[table.sample_ids[row]] = error.what
            continue
        own = boxes_by_row[row]
        inside, sound, n_clipped = _clip(boxes.xyxy[own], image.shape[:2])
        images.append(_annotate(table, row, image, own[sound], inside[sound], len(classes)))
        changed += n_clipped, len(own) - len(images[-1].boxes)
    return AnnotationSet(classes, tuple(images), unreadable, n_clipped=int(changed[0]), n_degenerate=int(changed[1]))


def class_names(table: SampleTable, view: str) -> tuple[str, ...]:
    """Names of the classes in a view.

    Raises:
        LabelMismatchError: The dataset has no boxes.
        UnknownNameError: No such view.
    """
    if view not in VIEWS:
        raise unknown_name("view of the classes", view, VIEWS)
    boxes_of(table)
    return table.box_classes if view == "all" else ("source",)


def boxes_of(table: SampleTable) -> Boxes:
    """The boxes of a dataset.

    Raises:
        LabelMismatchError: It has none.
    """
    if table.boxes is None or not len(table.boxes.row):
        raise LabelMismatchError(
            "the dataset has no boxes", where=table.name, hint="Give images with COCO annotations, as coco:PATH."
        )
    return table.boxes


def stratified_table(table: SampleTable) -> SampleTable:
    """The table with one label scheme, `STRATA`, in which every row is labelled, images without an object too.

    Raises:
        LabelMismatchError: The dataset has no boxes.
    """
    boxes = boxes_of(table)
    labels = np.full(len(table), len(table.box_classes), dtype=np.int64)
    area = (boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).prod(axis=1)
    ascending = np.argsort(area, kind="stable")
    objects = ascending[~boxes.crowd[ascending]]
    labels[boxes.row[objects]] = boxes.label[objects]  # of several values for one row, the last stays
    return replace(table, labels={STRATA: labels}, classes={STRATA: (*table.box_classes, EMPTY)})


def to_square(boxes: NDArray[np.float32], size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Boxes (k, 4) in pixels of an image of height and width `size` -> in pixels of its square of `side`."""
    return (boxes * _scale(size, side)).astype(np.float32)


def from_square(boxes: NDArray[np.float32], size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """The inverse of `to_square`."""
    return (boxes / _scale(size, side)).astype(np.float32)


def box_fluxes(image: NDArray[Any], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sum of the pixels that each box touches, float64 (k,), in the unit of the image; NaN pixels count nothing.

    NaN for pictures (8 and 16 bits), whose values have no physical unit, and for images of several bands.

    Args:
        image: (H, W) or (H, W, C), as it was read.
        boxes: float32 (k, 4), in its pixels.
    """
    plane = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if plane.ndim == 3 or not np.issubdtype(plane.dtype, np.floating):
        return np.full(len(boxes), np.nan)
    low, high = np.floor(boxes[:, :2]).astype(int), np.ceil(boxes[:, 2:]).astype(int)
    return np.array(
        [np.nansum(plane[y0:y1, x0:x1], dtype=np.float64) for (x0, y0), (x1, y1) in zip(low, high, strict=True)]
    )


def _scale(size: tuple[int, int], side: int) -> NDArray[np.float64]:
    height, width = size
    return np.array([side / width, side / height] * 2)


def _clip(boxes: NDArray[np.float32], size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
    """Boxes inside the image, which of them are sound, and how many of these were cut."""
    height, width = size
    inside = np.clip(boxes, 0, np.array([width, height] * 2, dtype=np.float32))
    large = np.all(inside[:, 2:] - inside[:, :2] >= MIN_SIDE, axis=1)
    sound: NDArray[np.bool_] = np.logical_and(large, np.all(np.isfinite(boxes), axis=1))
    return inside, sound, int((inside != boxes)[sound].any(axis=1).sum())


def _annotate(
    table: SampleTable, row: int, image: NDArray[Any], own: Rows, inside: NDArray[np.float32], n_classes: int
) -> AnnotatedImage:
    boxes = boxes_of(table)
    return AnnotatedImage(
        row=row,
        sample_id=table.sample_ids[row],
        size=(image.shape[0], image.shape[1]),
        boxes=inside,
        labels=boxes.label[own].clip(max=n_classes - 1),  # a single class is class 0
        crowd=boxes.crowd[own],
        flux=box_fluxes(image, inside),
    )
