"""COCO annotation files, checked and joined: one record an image."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurestore.datasets.annotation.records import NO_BOX, AnnotatedImage, AnnotatedObject, Edges, as_flag, as_side
from featurestore.datasets.boundary import reading
from featurestore.datasets.labels import SPLIT_NAMES, normalise_split
from featurestore.datasets.source_file import open_file
from featurestore.errors import DatasetError, LabelMismatchError

_SPLITS = SPLIT_NAMES.keys() - {"training", "testing"}
"""Words that name the split of an annotation file; a file such as ``training_log.json`` is none."""


@dataclass(frozen=True)
class CocoFile:
    """One annotation file.

    Attributes:
        path: Where it lies.
        folders: Folders that its file names may start from, beside the dataset's own.
        categories: Category names by their ids, in the order of ids.
        images: Its images by the names that the file gives them, in its order; their y counts as its field
            ``info.box_origin`` says.
    """

    path: Path
    folders: tuple[str, ...]
    categories: tuple[str, ...]
    images: tuple[AnnotatedImage, ...]


def find_annotation_files(root: Path) -> list[Path]:
    """Annotation files in a folder, its folder ``annotations`` or its split folders, train first.

    They are called like a split, alone or in a longer name (``train.json``, ``instances_val2017.json``), or
    ``annotations`` (``annotations.json``, ``_annotations.coco.json``).
    """
    folders = [root, root / "annotations", *(root / split for split in SPLIT_NAMES)]
    files = [
        path for folder in folders for path in folder.glob("*.json") if _split_word(path) or "annotations" in path.stem
    ]
    order = ["", *SPLIT_NAMES]
    return sorted(files, key=lambda path: (order.index(_split_name(path, root)), path))


def _split_word(path: Path) -> str:
    """The part of a file name that names a split, with its year: ``val2017``."""
    words = re.split(r"[^A-Za-z0-9]+", path.stem)
    return next((word for word in words if word.rstrip("0123456789").lower() in _SPLITS), "")


def _split_name(path: Path, root: Path) -> str:
    """``train``, ``val`` ...: from the name of the file, else of its folder below `root`."""
    word = _split_word(path).rstrip("0123456789").lower()
    return word or (path.parent.name if path.parent != root and path.parent.name in SPLIT_NAMES else "")


def load_json(path: Path) -> dict[str, Any]:
    """The content of a file that should be a COCO annotation file; empty where it is a list, as detections are.

    Raises:
        DatasetError: It is not JSON.
    """
    with _reading(path), open_file(path) as file:
        content = json.loads(file.read())
        return content if isinstance(content, dict) else {}


def has_boxes(content: Mapping[str, Any]) -> bool:
    """Whether it has all parts of an annotation file with boxes; captions and lists of images have not."""
    objects = content.get("annotations")
    if "categories" not in content or not isinstance(objects, list):
        return False
    return not objects or any(isinstance(one, dict) and "bbox" in one for one in objects)


def names_of(content: Mapping[str, Any]) -> list[str]:
    """Names of the images that any file of COCO lists."""
    images = content.get("images")
    listed = images if isinstance(images, list) else []
    return [str(one["file_name"]) for one in listed if isinstance(one, dict) and "file_name" in one]


def read_coco(path: Path, root: Path, content: Mapping[str, Any] | None = None) -> CocoFile:
    """Check one annotation file below the dataset's folder `root`, whose `content` may be loaded already.

    Raises:
        DatasetError: The file is not COCO JSON.
        LabelMismatchError: An annotation belongs to no image or no category.
    """
    content = load_json(path) if content is None else content
    with _reading(path):
        missing = [key for key in ("images", "annotations", "categories") if key not in content]
        if missing:
            raise ValueError(f"no {', '.join(missing)}")
        info = content.get("info") or {}
        categories = {entry["id"]: str(entry["name"]) for entry in sorted(content["categories"], key=lambda c: c["id"])}
        _check_ids(content["categories"], "categories", path)
        _check_ids(content["images"], "images", path)
        objects = _objects_by_image(content, categories, path)
        split, origin = _split_name(path, root), info.get("box_origin")
        images = tuple(_image(entry, objects, split, origin) for entry in content["images"])
        return CocoFile(path, folders_of(path, root), tuple(categories.values()), images)


def folders_of(path: Path, root: Path) -> tuple[str, ...]:
    """Folders, each with a slash at its end, that the names in an annotation file may start from."""
    own = path.parent.relative_to(root).as_posix()
    word = _split_word(path)
    folders = [own, "images", *([word, f"images/{word}"] if word else [])]
    return tuple(f"{folder}/" for folder in folders if folder != ".")


def _reading(path: Path) -> AbstractContextManager[None]:
    hint = "Give a JSON object with images, annotations and categories."
    return reading(path, "the file is not a COCO annotation file", hint=hint)


def _image(
    entry: Mapping[str, Any], objects: Mapping[Any, list[AnnotatedObject]], split: str, origin: str | None
) -> AnnotatedImage:
    return AnnotatedImage(
        path=str(entry["file_name"]),
        split=normalise_split(entry.get("split") or split),
        height=as_side(entry.get("height")),
        objects=tuple(objects.get(entry["id"], ())),
        box_origin=origin,
        group=str(entry.get("group") or ""),
        width=as_side(entry.get("width")),
    )


def _check_ids(entries: Sequence[Mapping[str, Any]], what: str, path: Path) -> None:
    if len({entry["id"] for entry in entries}) < len(entries):
        raise DatasetError(f"two {what} have the same id", where=path, hint="Give each one an id of its own.")


def _objects_by_image(
    content: Mapping[str, Any], categories: Mapping[Any, str], path: Path
) -> dict[Any, list[AnnotatedObject]]:
    images = {entry["id"] for entry in content["images"]}
    objects: dict[Any, list[AnnotatedObject]] = defaultdict(list)
    for entry in content["annotations"]:
        if entry["image_id"] not in images or entry["category_id"] not in categories:
            raise LabelMismatchError(
                f"annotation {entry.get('id')} belongs to no image or no category of the file",
                where=path,
                hint="Correct its image_id and category_id.",
            )
        objects[entry["image_id"]].append(_object(entry, categories))
    return objects


def _object(entry: Mapping[str, Any], categories: Mapping[Any, str]) -> AnnotatedObject:
    crowd = as_flag(entry.get("iscrowd")) or as_flag(entry.get("ignore"))
    return AnnotatedObject(_edges(entry.get("bbox")), categories[entry["category_id"]], crowd)


def _edges(box: Sequence[Any] | None) -> Edges:
    if not box or any(value is None for value in box):
        return NO_BOX
    x, y, width, height = map(float, box)
    return x, y, x + width, y + height
