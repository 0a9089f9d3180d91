"""Images with boxes, whatever file format describes them: from annotated images to a sample table."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featurestore.datasets.files import FileDataset, find_images, fingerprints_of, is_fits
from featurestore.datasets.naming import identity
from featurestore.errors import DatasetError
from featurestore.samples import UNLABELLED, Boxes, SampleTable

BOX_ORIGINS = ("upper", "lower")
"""Whether a box's y counts rows from the top, or from the bottom: the order of a FITS array."""

Edges = tuple[float, float, float, float]


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
        height: Height in pixels, or None where the annotation does not say.
        objects: Its boxes, in the order of the annotation.
        box_origin: One of `BOX_ORIGINS`; None: lower for FITS and upper for pictures.
        group: What it belongs to together with other images, such as the image that it was cut from; empty: nothing.
    """

    path: str
    split: str
    height: int | None
    objects: tuple[AnnotatedObject, ...]
    box_origin: str | None = None
    group: str = ""


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


class AnnotatedFolder(FileDataset):
    """Base of readers of images with boxes below a folder; a subclass reads the annotations.

    Two label schemes: ``single_object`` labels images that hold exactly one object, ``largest_object`` every image
    with an object by the largest. Crowd regions are no objects.

    Args:
        path: The folder.
        name: Name of the dataset; by default made from the path.
        box_origin: ``upper`` or ``lower``: whether a box's y counts rows from the top or from the bottom (as FITS
            arrays do); None: as the annotations say, else lower for FITS and upper for pictures.
        extension: HDU to read of FITS images; None: the first that holds an image.

    Raises:
        EmptyDatasetError: No image below the folder.
        LabelMismatchError: Annotations and images do not fit each other.
        DatasetError: No annotations, or some that cannot be used.
    """

    _kind: str

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        box_origin: str | None = None,
        extension: str | int | None = None,
    ) -> None:
        root = Path(path)
        found = find_images(root, salt=extension)
        images, classes, notice = self.read_annotations(root, found)
        paths = tuple(image.path for image in images)
        table = SampleTable(
            **identity(self._kind, root, name),
            **_schemes(images, classes),
            sample_ids=paths,
            splits=np.array([image.split for image in images]),
            groups=np.array([image.group for image in images]) if any(image.group for image in images) else None,
            stamps=fingerprints_of(paths, found),
            boxes=_boxes(images, classes, box_origin),
            box_classes=classes,
            notice=notice,
        )
        super().__init__(table, root, paths, extension)

    @staticmethod
    @abstractmethod
    def read_annotations(root: Path, found: Mapping[str, int]) -> Annotations:
        """The annotations below `root`, whose images are keys of `found`."""


def check_edges(xyxy: Edges, what: str, where: Path) -> Edges:
    """The edges, if they are finite and enclose an area.

    Raises:
        DatasetError: They do not.
    """
    x0, y0, x1, y1 = xyxy
    if not (np.isfinite(xyxy).all() and x1 > x0 and y1 > y0):
        raise DatasetError(
            f"the box of {what} has no area: its edges are {xyxy}", where=where, hint="Correct or remove the box."
        )
    return xyxy


def _schemes(images: Sequence[AnnotatedImage], classes: tuple[str, ...]) -> dict[str, Any]:
    single = np.full(len(images), UNLABELLED, dtype=np.int64)
    largest = single.copy()
    for row, image in enumerate(images):
        objects = [one for one in image.objects if not one.crowd]
        if objects:
            largest[row] = classes.index(max(objects, key=_area).category)
        if len(objects) == 1:
            single[row] = largest[row]
    labels = {"single_object": single, "largest_object": largest}
    return {"labels": labels, "classes": dict.fromkeys(labels, classes)}


def _area(one: AnnotatedObject) -> float:
    x0, y0, x1, y1 = one.xyxy
    return (x1 - x0) * (y1 - y0)


def _boxes(images: Sequence[AnnotatedImage], classes: tuple[str, ...], box_origin: str | None) -> Boxes:
    rows, xyxy, labels, crowd = [], [], [], []
    for row, image in enumerate(images):
        height = _height_to_flip(image, box_origin)
        for one in image.objects:
            rows.append(row)
            xyxy.append(_in_display_order(one.xyxy, height))
            labels.append(classes.index(one.category))
            crowd.append(one.crowd)
    return Boxes(
        row=np.array(rows, dtype=np.int64),
        xyxy=np.array(xyxy, dtype=np.float32).reshape(-1, 4),
        label=np.array(labels, dtype=np.int64),
        crowd=np.array(crowd, dtype=np.bool_),
    )


def _height_to_flip(image: AnnotatedImage, box_origin: str | None) -> int | None:
    """Height of an image whose boxes count from the bottom; None if they count from the top."""
    origin = box_origin or image.box_origin or ("lower" if is_fits(image.path) else "upper")
    if origin not in BOX_ORIGINS:
        raise DatasetError(f"unknown box origin {origin!r}", where=image.path, hint=f"Use {' or '.join(BOX_ORIGINS)}.")
    if origin == "upper" or not image.objects:
        return None
    if image.height is None:
        raise DatasetError(
            "boxes count from the bottom, but the height of the image is not given",
            where=image.path,
            hint="Add the field height to the image in the annotation file.",
        )
    return image.height


def _in_display_order(xyxy: Edges, height: int | None) -> Edges:
    x0, y0, x1, y1 = xyxy
    return xyxy if height is None else (x0, height - y1, x1, height - y0)
