"""Images with boxes: COCO annotation files beside pictures or FITS images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from featurestore.datasets.annotation import AnnotatedFolder, Annotations
from featurestore.datasets.files import check_match
from featurestore.datasets.formats.coco_json import CocoFile, find_annotation_files, read_coco
from featurestore.errors import DatasetError


class Coco(AnnotatedFolder):
    """Images below a folder, in the order of its COCO annotation files; see `find_annotation_files`.

    File names count from the folder, from its folder ``images``, from the folder of the annotation file, or from one
    called like the file's split. A field ``split`` of an image wins over the split of the file, and images with the
    same field ``group`` never straddle splits. The field ``info.box_origin`` of a file says how its boxes count.
    Regions marked ``iscrowd`` or ``ignore`` are no objects.
    Label schemes, arguments and errors are those of `AnnotatedFolder`.
    """

    _kind = "coco"

    @staticmethod
    def read_annotations(root: Path, found: Mapping[str, int]) -> Annotations:
        """Images and boxes of the annotation files."""
        files = [_resolve(read_coco(file, root), found) for file in _annotation_files(root)]
        images = [image for file in files for image in file.images]
        paths = {image.path for image in images}
        check_match([image.path for image in images if image.path not in found], sorted(found.keys() - paths), root)
        return Annotations(images, tuple(dict.fromkeys(name for file in files for name in file.categories)))

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


def _resolve(file: CocoFile, found: Mapping[str, int]) -> CocoFile:
    """The file, its images with the paths at which they were found; one that was not found keeps its name."""
    images = []
    for image in file.images:
        plain = PurePosixPath(image.path).as_posix()
        places = [plain, *(folder + plain for folder in file.folders)]
        images.append(replace(image, path=next((place for place in places if place in found), plain)))
    return replace(file, images=tuple(images))
