"""Images with boxes: COCO annotation files beside pictures or FITS images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from featurestore.datasets.coco_json import CocoFile, CocoImage, CocoObject, find_annotation_files, read_annotations
from featurestore.datasets.files import FileDataset, check_match, find_images, is_fits, stamps_of
from featurestore.datasets.naming import identity
from featurestore.errors import DatasetError
from featurestore.samples import UNLABELLED, Boxes, SampleTable

BOX_ORIGINS = ("upper", "lower")
"""Whether a box's y counts rows from the top, or from the bottom: the order of a FITS array."""


class Coco(FileDataset):
    """Images below a folder, in the order of its COCO annotation files; see `find_annotation_files`.

    File names count from the folder, from its folder ``images``, from the folder of the annotation file, or from one
    called like the file's split. A field ``split`` of an image wins over the split of the file.

    Two label schemes: ``single_object`` labels images that hold exactly one object, ``largest_object`` every image
    with an object by the largest. Regions marked ``iscrowd`` or ``ignore`` are no objects.

    Args:
        path: The folder.
        name: Name of the dataset; by default made from the path.
        box_origin: ``upper`` or ``lower``: whether a box's y counts rows from the top or from the bottom (as FITS
            arrays do); None: as the file's field ``info.box_origin`` says, else lower for FITS and upper for pictures.
        extension: HDU to read of FITS images; None: the first that holds an image.

    Raises:
        EmptyDatasetError: No image below the folder.
        LabelMismatchError: Annotations and images do not fit each other.
        DatasetError: No annotation file, or one that cannot be used.
    """

    _kind = "coco"

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
        files = [read_annotations(file, root) for file in _annotation_files(root)]
        paths = _match(files, found, root)
        images = [image for file in files for image in file.images]
        origins = [box_origin or file.box_origin for file in files for _ in file.images]
        box_classes = tuple(dict.fromkeys(name for file in files for name in file.categories))
        table = SampleTable(
            **identity(self._kind, root, name),
            **_schemes(images, box_classes),
            sample_ids=paths,
            splits=np.array([image.split for image in images]),
            stamps=stamps_of(paths, found),
            boxes=_boxes(images, paths, origins, box_classes),
            box_classes=box_classes,
        )
        super().__init__(table, root, paths, extension)

    @staticmethod
    def detects(path: Path) -> bool:
        """Whether the folder holds annotation files."""
        return path.is_dir() and bool(find_annotation_files(path))


def _annotation_files(root: Path) -> list[Path]:
    files = find_annotation_files(root)
    if not files:
        raise DatasetError(
            "no COCO annotation file", where=root, hint="Add annotations.json, or train.json, valid.json and test.json."
        )
    return files


def _match(files: Sequence[CocoFile], found: Mapping[str, int], root: Path) -> tuple[str, ...]:
    """The path of every image of every file."""
    paths = []
    for file in files:
        for image in file.images:
            plain = PurePosixPath(image.file_name).as_posix()
            places = [plain, *(folder + plain for folder in file.folders)]
            paths.append(next((place for place in places if place in found), plain))
    check_match([path for path in paths if path not in found], sorted(found.keys() - set(paths)), root)
    return tuple(paths)


def _schemes(images: Sequence[CocoImage], classes: tuple[str, ...]) -> dict[str, Any]:
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


def _area(one: CocoObject) -> float:
    return one.bbox[2] * one.bbox[3]


def _boxes(
    images: Sequence[CocoImage], paths: Sequence[str], origins: Sequence[str | None], classes: tuple[str, ...]
) -> Boxes:
    rows, xyxy, labels, crowd = [], [], [], []
    for row, (image, path, origin) in enumerate(zip(images, paths, origins, strict=True)):
        height = _height_to_flip(image, path, origin)
        for one in image.objects:
            rows.append(row)
            xyxy.append(_in_display_order(one, height))
            labels.append(classes.index(one.category))
            crowd.append(one.crowd)
    return Boxes(
        row=np.array(rows, dtype=np.int64),
        xyxy=np.array(xyxy, dtype=np.float32).reshape(-1, 4),
        label=np.array(labels, dtype=np.int64),
        crowd=np.array(crowd, dtype=np.bool_),
    )


def _height_to_flip(image: CocoImage, path: str, origin: str | None) -> int | None:
    """Height of an image whose boxes count from the bottom; None if they count from the top."""
    origin = origin or ("lower" if is_fits(path) else "upper")
    if origin not in BOX_ORIGINS:
        raise DatasetError(f"unknown box origin {origin!r}", where=path, hint=f"Use {' or '.join(BOX_ORIGINS)}.")
    if origin == "upper" or not image.objects:
        return None
    if image.height is None:
        raise DatasetError(
            "boxes count from the bottom, but the height of the image is not given",
            where=path,
            hint="Add the field height to the image in the annotation file.",
        )
    return image.height


def _in_display_order(one: CocoObject, height: int | None) -> tuple[float, float, float, float]:
    x, y, width, tall = one.bbox
    top = y if height is None else height - (y + tall)
    return x, top, x + width, top + tall
