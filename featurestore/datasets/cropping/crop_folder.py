"""A folder of crops: ``images/PARENT/`` with a record of what was cut from each parent, and one COCO file of all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from featurestore.datasets.boundary import reading
from featurestore.errors import DatasetError
from featurestore.files import write_atomically, writing

RECORD = "crops.json"
"""File beside the crops of one parent: ``request`` and ``stamp`` of what they were cut from, ``crops`` with their
boxes (edges x0, y0, x1, y1, rows as in FITS), and the numbers of those left out, ``with_nan`` and ``without_sources``.
"""

Record = dict[str, Any]


def folder_of(output: Path, parent: str) -> Path:
    """Where the crops of a parent are."""
    return output / "images" / parent


def read_record(path: Path) -> Record:
    """One record; empty where there is none.

    Raises:
        DatasetError: It is damaged.
    """
    if not path.exists():
        return {}
    with reading(path, "the record cannot be read", hint="Remove its folder."):
        return dict(json.loads(path.read_bytes()))


def read_records(output: Path) -> dict[str, Record]:
    """Parent -> its record, in alphabetical order."""
    return {path.parent.name: read_record(path) for path in sorted((output / "images").glob(f"[!.]*/{RECORD}"))}


def check_request(output: Path, request: Mapping[str, Any]) -> None:
    """Refuse a folder with crops that were made in another way.

    Raises:
        DatasetError: The message names what differs.
    """
    for parent, record in read_records(output).items():
        old = record.get("request", {})
        changed = [name for name in request if old.get(name) != request[name]]
        if changed:
            raise DatasetError(
                f"the folder holds crops that differ in {', '.join(changed)}",
                where=folder_of(output, parent),
                hint="Give another folder by --output, or remove this one.",
            )


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make or replace a folder that is either whole or absent: filled under a hidden name, then put in its place.

    Raises:
        StoreWriteError: It cannot be written.
    """
    part = folder.with_name(f".{folder.name}.part")
    with writing(folder, "the crops"):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        fill(part)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)


def write_annotations(path: Path, records: Mapping[str, Record], size: int) -> None:
    """Write the COCO file of all crops, which are `size` pixels wide and high.

    Raises:
        StoreWriteError: It cannot be written.
    """
    content = json.dumps(_coco(records, size))
    write_atomically(path, lambda part: part.write_text(content, encoding="utf-8"))


def _coco(records: Mapping[str, Record], size: int) -> dict[str, Any]:
    crops = [(parent, crop) for parent, record in records.items() for crop in record["crops"]]
    classes = sorted({one["class"] for _, crop in crops for one in crop["objects"]}) or ["compact"]
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, (parent, crop) in enumerate(crops, 1):
        side = {"width": size, "height": size}
        images.append({"id": number, "file_name": f"{parent}/{crop['file']}", "group": parent, **side})
        for one in crop["objects"]:
            x0, y0, x1, y1 = one["xyxy"]
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": classes.index(one["class"]) + 1}
            annotations.append(ids | box | {"source": one["source"]})
    return {
        "info": {"box_origin": "lower", "description": "Boxes count rows of the FITS array, from the bottom."},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
    }
