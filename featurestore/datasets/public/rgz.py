"""Radio Galaxy Zoo: COCO or Pascal-VOC annotations with the study's six classes of components and peaks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from featurestore.datasets.annotation.folder import AnnotatedFolder
from featurestore.datasets.annotation.records import AnnotatedObject, Annotations
from featurestore.datasets.formats.coco import Coco
from featurestore.datasets.formats.voc import Voc
from featurestore.datasets.labels import is_missing
from featurestore.errors import LabelMismatchError
from featurestore.label_mapping import map_labels
from featurestore.samples import SampleTable

CLASSES = ("1C-1P", "1C-2P", "1C-3P", "2C-2P", "2C-3P", "3C-3P")
"""Components and peaks, in the order of Lastufka et al. 2025 (doi 10.1051/0004-6361/202553691)."""

_COUNTS = ("1", "2", "3")
_PREFIXES = {"": "single_object", "largest-": "largest_object"}
"""How the names of label schemes begin -> the scheme that they are made of."""


class RGZ(AnnotatedFolder):
    """COCO or Pascal-VOC annotations with categories such as ``1C-2P``, ``1C_2P`` or ``1_2``: components and peaks.

    The label schemes are ``components-peaks`` (six classes), ``peaks`` and ``components`` (1, 2, 3). As in the study,
    an image is labelled if it holds exactly one object; under the same names after ``largest-``, every image with an
    object is labelled by the largest. A folder with annotations of both kinds is opened as COCO. Arguments and errors
    are those of `AnnotatedFolder`, and

    Raises:
        LabelMismatchError: A category is none of the six.
    """

    _kind = "rgz"

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        box_origin: str | None = None,
        extension: str | int | None = None,
    ) -> None:
        super().__init__(path, name=name, box_origin=box_origin, extension=extension)
        self._table = _with_schemes(self._table)

    @staticmethod
    def read_annotations(root: Path, found: Mapping[str, int]) -> Annotations:
        """Images and boxes of the annotation files."""
        reader = Voc if Voc.detects(root) and not Coco.detects(root) else Coco
        images, classes, notice = reader.read_annotations(root, found)
        names = {one: one if is_missing(one) else _class_name(one, root) for one in classes}
        renamed = [replace(image, objects=_rename(image.objects, names)) for image in images]
        return Annotations(renamed, tuple(dict.fromkeys(names.values())), notice)


def _with_schemes(table: SampleTable) -> SampleTable:
    names = table.box_classes
    schemes = {
        "components-peaks": (names, CLASSES),
        "peaks": ([name[3] for name in names], _COUNTS),
        "components": ([name[0] for name in names], _COUNTS),
    }
    return replace(
        table,
        labels={
            prefix + scheme: map_labels(table.labels[base], new, classes)
            for prefix, base in _PREFIXES.items()
            for scheme, (new, classes) in schemes.items()
        },
        classes={prefix + scheme: classes for prefix in _PREFIXES for scheme, (_, classes) in schemes.items()},
    )


def _rename(objects: Sequence[AnnotatedObject], names: Mapping[str, str]) -> tuple[AnnotatedObject, ...]:
    return tuple(replace(one, category=names[one.category]) for one in objects)


def _class_name(category: str, where: Path) -> str:
    name = re.sub(r"^(\d)C?[-_](\d)P?$", r"\1C-\2P", category)
    if name not in CLASSES:
        raise LabelMismatchError(
            f"the category {category!r} is none of {', '.join(CLASSES)}",
            where=where,
            hint="Rename the category, or open the folder as coco:PATH or voc:PATH.",
        )
    return name
