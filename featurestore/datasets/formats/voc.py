"""Images with boxes: Pascal-VOC annotations, one XML file an image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from featurestore.datasets.annotation.folder import AnnotatedFolder
from featurestore.datasets.annotation.records import AnnotatedImage, Annotations
from featurestore.datasets.boundary import reading
from featurestore.datasets.files import check_match, some_of, stem_of, walk
from featurestore.datasets.formats.voc_xml import ROOT, read_annotation
from featurestore.datasets.labels import SPLIT_NAMES, normalise_split, sort_classes
from featurestore.datasets.matching import compose
from featurestore.datasets.source_file import open_file
from featurestore.errors import DatasetError, LabelMismatchError

ANNOTATIONS, IMAGES, SETS = "annotations", "images", "ImageSets/Main"
"""Folders of the devkit layout: the first called like this, the second ending like this, in any case."""

_START = 1 << 16
"""Bytes of an annotation within which its outermost element begins."""

_SET = re.compile(r"(trainval|train|validation|valid|val|test)(.*)")


class Voc(AnnotatedFolder):
    """Images below a folder with one Pascal-VOC XML file each, in the order of their paths.

    Two layouts: that of the VOC devkit (``Annotations/NAME.xml``, images in ``JPEGImages``, ``PNGImages`` or any
    folder ``*Images``, splits in ``ImageSets/Main/{train,val,test}.txt``), and images beside their XML files, where
    folders called like splits are splits. See `read_annotation` for boxes, `read_splits` for splits. Label schemes,
    arguments and errors are those of `AnnotatedFolder`.
    """

    _kind = "voc"

    @staticmethod
    def read_annotations(root: Path, found: Mapping[str, int]) -> Annotations:
        """Images and boxes of the annotation files."""
        pairs = _pair(_annotation_files(root), found, root)
        splits, notice = read_splits(root, pairs)
        images = []
        for name, (xml, path) in sorted(pairs.items(), key=lambda pair: pair[1].image):
            annotation = read_annotation(root / xml)
            size, objects = (annotation.width, annotation.height), annotation.objects
            images.append(AnnotatedImage(path, splits[name], size[1], objects, width=size[0]))
        return Annotations(images, sort_classes(one.category for image in images for one in image.objects), notice)

    @staticmethod
    def detects(path: Path) -> bool:
        """Whether the folder, its annotation folder or a split folder holds a VOC annotation."""
        if not path.is_dir():
            return False
        folders = [path, *(one for one in path.iterdir() if one.name.lower() in (ANNOTATIONS, *SPLIT_NAMES))]
        first = next((file for folder in folders for file in folder.glob("*.xml") if file.is_file()), None)
        if first is None:
            return False
        with open_file(first) as file:
            start = file.read(_START)
        return any(f"<{ROOT}".encode(encoding) in start for encoding in ("utf-8", "utf-16-le", "utf-16-be"))


class _Pair(NamedTuple):
    """Relative POSIX paths of an annotation and its image."""

    annotation: str
    image: str


def _annotation_files(root: Path) -> list[str]:
    files = sorted(path for path, _ in walk(root) if path.lower().endswith(".xml"))
    if not files:
        raise DatasetError(
            "no Pascal-VOC annotation", where=root, hint="Add an XML file for each image, beside it or in Annotations."
        )
    return files


def _pair(files: Iterable[str], found: Iterable[str], root: Path) -> dict[str, _Pair]:
    """Name of each sample (as image sets have it) -> its files."""
    inside = [path for path in files if _folder(path) == ANNOTATIONS]
    if inside:
        files = inside
        found = [path for path in found if _folder(path).endswith(IMAGES)] or [p for p in found if not _folder(p)]
    annotations, images = _by_name(files, root, strip=bool(inside)), _by_name(found, root, strip=bool(inside))
    check_match(
        [annotations[name] for name in sorted(annotations.keys() - images)],
        [images[name] for name in sorted(images.keys() - annotations)],
        root,
    )
    return {name: _Pair(annotations[name], images[name]) for name in annotations}


def _folder(path: str) -> str:
    """The first folder of a path, in lower case; empty for a file at the root."""
    return path.partition("/")[0].lower() if "/" in path else ""


def _by_name(paths: Iterable[str], root: Path, *, strip: bool) -> dict[str, str]:
    """Paths by what they have in common with their partner: no suffix and, if need be, no first folder."""
    names: dict[str, str] = {}
    for path in paths:
        name = compose(stem_of(path.partition("/")[2] if strip and "/" in path else path))
        if name in names:
            raise DatasetError(
                f"{names[name]} and {path} have the same name", where=root, hint="Keep one image of each name."
            )
        names[name] = path
    return names


def read_splits(root: Path, names: Iterable[str]) -> tuple[dict[str, str], str]:
    """The split of each sample.

    The files of ``ImageSets/Main`` are called like splits (``train.txt``); where there are none such, by a split and
    a version (``trainD1.txt``, ``testD1.txt``). ``trainval`` is read where neither of its parts is. Without image
    sets, folders called like splits are splits. A sample in no set belongs to no split.

    Args:
        root: Folder of the dataset.
        names: Names of the samples.

    Returns:
        Name -> name of the split in a sample table; and a notice of the sets left out because no sample of theirs
        is here.

    Raises:
        LabelMismatchError: A set names some samples that are here, and some that are not.
        DatasetError: A sample belongs to two splits.
    """
    sets = _image_sets(root / SETS)
    if not sets:
        return {name: SPLIT_NAMES.get(_folder(name), "") for name in names}, ""
    splits, left_out = dict.fromkeys(names, ""), []
    for file, split in sets.items():
        listed = _names_in(file)
        missing = [name for name in listed if name not in splits]
        if missing and len(missing) == len(listed):
            left_out.append(file.name)
            continue
        _assign(splits, listed, split, missing, file)
    notice = f"Image sets left out, since none of their images is here: {some_of(left_out)}." if left_out else ""
    return splits, notice


def _names_in(file: Path) -> list[str]:
    """The first word of each line."""
    with (
        reading(file, "the image set cannot be read", hint="Write one name a line, in UTF-8."),
        open_file(file) as lines,
    ):
        return [compose(line.split()[0]) for line in lines.read().decode("utf-8-sig").splitlines() if line.strip()]


def _image_sets(folder: Path) -> dict[Path, str]:
    """Files of image sets -> their splits."""
    versions: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in sorted(folder.glob("*.txt")):
        if match := _SET.fullmatch(file.stem):
            versions[match[2]][match[1]] = file
    sets: dict[Path, str] = {}
    for version in [versions[""]] if "" in versions else versions.values():
        both = version.pop("trainval", None)
        sets |= {file: normalise_split(split) for split, file in version.items()}
        if both and not version.keys() & {"train", "val"}:
            sets[both] = "train"
    return sets


def _assign(splits: dict[str, str], listed: list[str], split: str, missing: list[str], file: Path) -> None:
    if missing:
        raise LabelMismatchError(
            f"{len(missing)} names of the image set are not there: {some_of(missing)}",
            where=file,
            hint="Add their images and annotations, or correct the names.",
        )
    for name in listed:
        if splits[name] not in ("", split):
            raise DatasetError(
                f"{name} belongs to the splits {splits[name]} and {split}", where=file, hint="Keep it in one of them."
            )
        splits[name] = split
