"""Images with boxes: COCO annotation files beside pictures or FITS images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from featurestore.datasets.annotation.folder import AnnotatedFolder
from featurestore.datasets.annotation.records import Annotations
from featurestore.datasets.files import check_match, some_of
from featurestore.datasets.formats.coco_json import (
    CocoFile,
    find_annotation_files,
    folders_of,
    has_boxes,
    load_json,
    names_of,
    read_coco,
)
from featurestore.datasets.matching import ImageFinder
from featurestore.errors import DatasetError
from featurestore.samples import join_notices


class Coco(AnnotatedFolder):
    """Images below a folder, in the order of its COCO annotation files; see `find_annotation_files`.

    File names count from the folder, from its folder ``images``, from the folder of the annotation file, or from one
    called like the file's split. A field ``split`` of an image wins over the split of the file, and images with the
    same field ``group`` never straddle splits. The field ``info.box_origin`` of a file says how its boxes count.
    Regions marked ``iscrowd`` or ``ignore`` are not objects. Of a folder ``annotations`` as COCO ships it, the files
    ``instances`` are read; files without boxes, and files none of whose images is here, are left out with a notice.
    Label schemes, arguments and errors are those of `AnnotatedFolder`.
    """

    _kind = "coco"

    @staticmethod
    def read_annotations(root: Path, found: Mapping[str, int]) -> Annotations:
        """Images and boxes of the annotation files."""
        files, others = _read_files(root)
        resolved = [_resolve(file, found) for file in files]
        used = [file for file in resolved if not file.images or any(one.path in found for one in file.images)]
        used = used or resolved
        images = [image for file in used for image in file.images]
        surplus = found.keys() - {image.path for image in images}
        listed = surplus and surplus & _listed_in(others, root, found)
        check_match([image.path for image in images if image.path not in found], sorted(surplus - listed), root)
        notices = (
            _tell_files("hold no boxes", others),
            f"{len(listed):,} images that only these files list are left out." if listed else "",
            _tell_files("list no image that is here", [file.path for file in resolved if file not in used]),
        )
        classes = tuple(dict.fromkeys(name for file in used for name in file.categories))
        return Annotations(images, classes, join_notices(*notices))

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


def _read_files(root: Path) -> tuple[list[CocoFile], list[Path]]:
    """The annotation files with boxes, and the others: captions, lists of images, keypoints beside instances.

    The folder ``annotations`` as COCO ships it describes the same images several times.
    """
    files = _annotation_files(root)
    instances = [file for file in files if file.stem.startswith("instances")]
    read, others = list[CocoFile](), [file for file in files if instances and file not in instances]
    for file in instances or files:
        content = load_json(file)
        if has_boxes(content) or len(files) == 1:
            read.append(read_coco(file, root, content))
        else:
            others.append(file)
    return read or [read_coco(files[0], root)], others


def _listed_in(files: Sequence[Path], root: Path, found: Mapping[str, int]) -> set[str]:
    """Images that are there and that these files list."""
    paths = set[str | None]()
    for file in files:
        finder = ImageFinder(found, folders_of(file, root))
        paths.update(map(finder.find, names_of(load_json(file))))
    return {path for path in paths if path is not None}


def _tell_files(why: str, files: Sequence[Path]) -> str:
    return f"Annotation files left out, since they {why}: {some_of([one.name for one in files])}." if files else ""


def _resolve(file: CocoFile, found: Mapping[str, int]) -> CocoFile:
    """The file, its images with the paths at which they were found; one that was not found keeps its name."""
    finder = ImageFinder(found, file.folders)
    return replace(file, images=tuple(replace(one, path=finder.find(one.path) or one.path) for one in file.images))
