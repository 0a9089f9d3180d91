"""One Pascal-VOC annotation: an XML file an image, parsed without entities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from featurestore.datasets.annotation.records import NO_BOX, AnnotatedObject, Edges, as_flag, as_side
from featurestore.datasets.boundary import reading
from featurestore.datasets.source_file import read_file
from featurestore.errors import DatasetError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
ROOT = "annotation"
"""Outermost element of an annotation."""


@dataclass(frozen=True)
class VocAnnotation:
    """What one file says.

    Attributes:
        width: Width of the image in pixels, or None where the file does not say.
        height: Its height, or None.
        objects: Its boxes, in the order of the file.
    """

    width: int | None
    height: int | None
    objects: tuple[AnnotatedObject, ...]


def read_annotation(path: Path) -> VocAnnotation:
    """Read and check one file.

    Corners of VOC are pixels, counted from 1 and inside the box: they become pixel edges (xmin - 1, ymin - 1, xmax,
    ymax). A corner 0, as some tools write it, is taken for the edge of the image. Objects marked ``difficult`` count
    as crowd regions, as VOC's own evaluation has it: they are neither objects to find nor false detections.

    Raises:
        DatasetError: The file is not a VOC annotation, or declares entities.
    """
    hint = "Give an XML file with object elements, each with name and bndbox (xmin, ymin, xmax, ymax)."
    with reading(path, "the file is not a Pascal-VOC annotation", hint=hint):
        annotation = _outermost(path)
        width, height = (as_side(annotation.findtext(f"size/{side}")) for side in ("width", "height"))
        return VocAnnotation(width, height, tuple(_object(element) for element in annotation.iterfind("object")))


def _outermost(path: Path) -> Element:
    try:
        element: Element = fromstring(read_file(path))
    except DefusedXmlException as error:  # entities can make a small file grow without bound, or name other files
        name = getattr(error, "name", type(error).__name__)
        raise DatasetError(
            f"the XML file declares the entity {name!r}", where=path, hint="Remove its DOCTYPE; entities are not read."
        ) from error
    if element.tag != ROOT:
        raise ValueError(f"its outermost element is {element.tag}")
    return element


def _object(element: Element) -> AnnotatedObject:
    return AnnotatedObject(_edges(element), _text(element, "name"), crowd=as_flag(element.findtext("difficult")))


def _edges(element: Element) -> Edges:
    if element.find("bndbox") is None:
        return NO_BOX
    x0, y0, x1, y1 = (float(_text(element, f"bndbox/{corner}")) for corner in _CORNERS)
    return max(x0 - 1, 0), max(y0 - 1, 0), x1, y1


def _text(element: Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"an object has no {path}")
    return text
