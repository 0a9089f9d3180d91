"""COCO annotation files, checked and joined: one record an image."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurestore.datasets.annotation import AnnotatedImage, AnnotatedObject, check_edges
from featurestore.datasets.labels import SPLIT_NAMES, normalise_split
from featurestore.errors import DatasetError, LabelMismatchError


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
    return next((word for word in words if word.rstrip("0123456789").lower() in SPLIT_NAMES), "")


def _split_name(path: Path, root: Path) -> str:
    """``train``, ``val`` ...: from the name of the file, else of its folder below `root`."""
    word = _split_word(path).rstrip("0123456789").lower()
    return word or (path.parent.name if path.parent != root and path.parent.name in SPLIT_NAMES else "")


def read_coco(path: Path, root: Path) -> CocoFile:
    """Read and check one annotation file below the dataset's folder `root`.

    Raises:
        DatasetError: The file is no COCO JSON, or a box has no area.
        LabelMismatchError: An annotation belongs to no image or no category.
    """
    content = _load(path)
    try:
        info = content.get("info") or {}
        categories = {entry["id"]: str(entry["name"]) for entry in sorted(content["categories"], key=lambda c: c["id"])}
        objects = _objects_by_image(content, categories, path)
        split, origin = _split_name(path, root), info.get("box_origin")
        images = tuple(_image(entry, objects, split, origin) for entry in content["images"])
        return CocoFile(path, _folders(path, root), tuple(categories.values()), images)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _no_coco(f"{type(error).__name__}: {error}", path) from error


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _no_coco(str(error), path) from error
    missing = [
        key for key in ("images", "annotations", "categories") if not isinstance(content, dict) or key not in content
    ]
    if missing:
        raise _no_coco(f"no {', '.join(missing)}", path)
    return dict(content)


def _no_coco(reason: str, path: Path) -> DatasetError:
    return DatasetError(
        f"the file is no COCO annotation file: {reason}",
        where=path,
        hint="Give a JSON object with images, annotations and categories.",
    )


def _folders(path: Path, root: Path) -> tuple[str, ...]:
    own = path.parent.relative_to(root).as_posix()
    word = _split_word(path)
    folders = [own, "images", *([word, f"images/{word}"] if word else [])]
    return tuple(f"{folder}/" for folder in folders if folder != ".")


def _image(
    entry: Mapping[str, Any], objects: Mapping[Any, list[AnnotatedObject]], split: str, origin: str | None
) -> AnnotatedImage:
    height = entry.get("height")
    return AnnotatedImage(
        path=str(entry["file_name"]),
        split=normalise_split(entry.get("split") or split),
        height=None if height is None else int(height),
        objects=tuple(objects.get(entry["id"], ())),
        box_origin=origin,
        group=str(entry.get("group") or ""),
    )


def _objects_by_image(
    content: Mapping[str, Any], categories: Mapping[Any, str], path: Path
) -> dict[Any, list[AnnotatedObject]]:
    images = {entry["id"] for entry in content["images"]}
    if len(images) < len(content["images"]):
        raise DatasetError("two images have the same id", where=path, hint="Give every image an id of its own.")
    objects: dict[Any, list[AnnotatedObject]] = defaultdict(list)
    for entry in content["annotations"]:
        if entry["image_id"] not in images or entry["category_id"] not in categories:
            raise LabelMismatchError(
                f"annotation {entry.get('id')} belongs to no image or no category of the file",
                where=path,
                hint="Correct its image_id and category_id.",
            )
        objects[entry["image_id"]].append(_object(entry, categories, path))
    return objects


def _object(entry: Mapping[str, Any], categories: Mapping[Any, str], path: Path) -> AnnotatedObject:
    x, y, width, height = (float(value) for value in entry["bbox"])
    edges = check_edges((x, y, x + width, y + height), f"annotation {entry.get('id')}", path)
    crowd = bool(entry.get("iscrowd") or entry.get("ignore"))
    return AnnotatedObject(edges, categories[entry["category_id"]], crowd)
