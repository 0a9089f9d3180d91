"""Base of readers of images with boxes: from annotated images to a sample table."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.datasets.annotation.frames import fit_boxes
from featurestore.datasets.annotation.objects import drop_unusable
from featurestore.datasets.annotation.records import AnnotatedImage, AnnotatedObject, Annotations
from featurestore.datasets.base import Sample
from featurestore.datasets.files import FileDataset, find_images, fingerprints_of
from featurestore.datasets.labels import encode_groups
from featurestore.datasets.naming import identity
from featurestore.errors import UnreadableImageError
from featurestore.samples import UNLABELLED, Boxes, SampleTable, join_notices


class AnnotatedFolder(FileDataset):
    """Base of readers of images with boxes below a folder; a subclass reads the annotations.

    Two label schemes: ``single_object`` labels images that hold exactly one object, ``largest_object`` every image
    with an object by the largest. Crowd regions are not objects.

    Args:
        path: The folder.
        name: Name of the dataset; by default made from the path.
        box_origin: ``upper`` or ``lower``: whether a box's y counts rows from the top or from the bottom (as FITS
            arrays do); None: as the annotations say, else lower for FITS and upper for pictures.
        extension: HDU to read of FITS images; None: the first that holds an image.
        keep: Class names that are names although they look like missing values, such as NA.

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
        keep: str | Sequence[str] = (),
    ) -> None:
        root = Path(path)
        found = find_images(root, salt=extension)
        given, classes, notice = drop_unusable(self.read_annotations(root, found), keep)
        images, fitted = fit_boxes(given, root, box_origin)
        paths = tuple(image.path for image in images)
        groups, lost = encode_groups([image.group for image in images])
        table = SampleTable(
            **identity(self._kind, root, name),
            **_schemes(images, classes),
            sample_ids=paths,
            splits=np.array([image.split for image in images]),
            groups=groups if groups.any() else None,
            fingerprints=fingerprints_of(paths, found),
            boxes=_boxes(images, classes),
            box_classes=classes,
            notice=join_notices(notice, fitted, lost if groups.any() else ""),
        )
        super().__init__(table, root, paths, extension, found.notice)
        self._sizes = [image.size if old.objects else None for image, old in zip(images, given, strict=True)]

    def read(self, row: int) -> Sample:
        """Decode one image; see `FileDataset.read`.

        Raises:
            UnreadableImageError: The file cannot be read or decoded, or has another size than its boxes were drawn in.
        """
        sample, size = super().read(row), self._sizes[row]
        height, width = sample.image.shape[:2]
        if size and size != (width, height):
            raise UnreadableImageError(
                f"the image is {width} x {height}, but its boxes were drawn on {size[0]} x {size[1]}",
                where=self._root / self._paths[row],
                hint="Correct width and height in the annotation, or give the image that it was made on.",
            )
        return sample

    @staticmethod
    @abstractmethod
    def read_annotations(root: Path, found: Mapping[str, int]) -> Annotations:
        """The annotations below `root`, whose images are keys of `found`."""


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


def _boxes(images: Sequence[AnnotatedImage], classes: tuple[str, ...]) -> Boxes:
    pairs = [(row, one) for row, image in enumerate(images) for one in image.objects]
    return Boxes(
        row=np.array([row for row, _ in pairs], dtype=np.int64),
        xyxy=np.array([one.xyxy for _, one in pairs], dtype=np.float32).reshape(-1, 4),
        label=np.array([classes.index(one.category) for _, one in pairs], dtype=np.int64),
        crowd=np.array([one.crowd for _, one in pairs], dtype=np.bool_),
    )
