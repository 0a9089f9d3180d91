"""One Pascal-VOC annotation: an XML file an image, parsed without entities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from featurestore.datasets.annotation import AnnotatedObject, check_edges
from featurestore.errors import DatasetError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
ROOT = "annotation"
"""Outermost element of an annotation."""


@dataclass(frozen=True)
class VocAnnotation:
    """What one file says.

    Attributes:
        height: Height of the image in pixels, or None where the file does not say.
        objects: Its boxes, in the order of the file.
    """

    height: int | None
    objects: tuple[AnnotatedObject, ...]


def read_annotation(path: Path) -> VocAnnotation:
    """Read and check one file.

    Corners of VOC are pixels, counted from 1 and inside the box: they become pixel edges (xmin - 1, ymin - 1, xmax,
    ymax). A corner 0, as some tools write it, is taken for the edge of the image. Objects marked ``difficult`` count
    as crowd regions, as VOC's own evaluation has it: they are neither objects to find nor false detections.

    Raises:
        DatasetError: The file is no VOC annotation, declares entities, or a box has no area.
    """
    try:
        annotation = _outermost(path)
        height = annotation.findtext("size/height")
        objects = tuple(_object(element, path) for element in annotation.iterfind("object"))
        return VocAnnotation(int(height) or None if height else None, objects)
    except (OSError, ValueError, expat.ExpatError) as error:
        raise DatasetError(
            f"the file is no Pascal-VOC annotation: {error}",
            where=path,
            hint="Give an XML file with object elements, each with name and bndbox (xmin, ymin, xmax, ymax).",
        ) from error


def _outermost(path: Path) -> Element:
    element = parse_xml(path.read_bytes(), path)
    if element.tag != ROOT:
        raise ValueError(f"its outermost element is {element.tag}")
    return element


def parse_xml(data: bytes, where: Path) -> Element:
    """The outermost element of an XML document that declares no entities.

    Raises:
        DatasetError: It declares one: entities can make a small file grow without bound, or name other files.
        xml.parsers.expat.ExpatError: It is no XML.
    """

    def refuse(name: str, *_: object) -> NoReturn:
        raise DatasetError(
            f"the XML file declares the entity {name!r}", where=where, hint="Remove its DOCTYPE; entities are not read."
        )

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    parser.Parse(data, True)
    return builder.close()


def _object(element: Element, path: Path) -> AnnotatedObject:
    category = _text(element, "name")
    x0, y0, x1, y1 = (float(_text(element, f"bndbox/{corner}")) for corner in _CORNERS)
    edges = check_edges((max(x0 - 1, 0), max(y0 - 1, 0), x1, y1), f"an object {category}", path)
    return AnnotatedObject(edges, category, crowd=(element.findtext("difficult") or "0").strip() == "1")


def _text(element: Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"an object has no {path}")
    return text
