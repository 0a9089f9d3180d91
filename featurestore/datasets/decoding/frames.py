"""The frame of a picture, from its header: the size that is stored, and how it is turned when it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image, TiffImagePlugin

from featurestore.datasets.decoding.images import FORMATS
from featurestore.datasets.decoding.quiet import ignored_warnings
from featurestore.datasets.source_file import open_file

_ACROSS = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


class Frame(NamedTuple):
    """Width and height as they are stored, and the EXIF orientation, 1 to 8."""

    width: int
    height: int
    orientation: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height in the file."""
        return self.width, self.height

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height as the picture is shown."""
        return (self.height, self.width) if self.orientation in _ACROSS else (self.width, self.height)

    def turn(self, xyxy: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Edges in the picture as it is stored -> edges in the picture as it is shown."""
        x0, y0, x1, y1 = xyxy
        (width, height), turn = self.shown, self.orientation
        if turn in _ACROSS:
            x0, y0, x1, y1 = y0, x0, y1, x1
        if turn in (3, 4, 7, 8):
            y0, y1 = height - y1, height - y0
        if turn in (2, 3, 6, 7):
            x0, x1 = width - x1, width - x0
        return x0, y0, x1, y1


def read_frame(path: Path) -> Frame | None:
    """The frame of a picture; None where its header cannot be read, which decoding will report."""
    try:
        with ignored_warnings(), open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            return Frame(*_stored_size(image), _orientation(image))
    except Exception:  # inside a parser, damage can surface as almost anything
        return None


def _stored_size(image: Image.Image) -> tuple[int, int]:
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # the size that it states is the one after turning
        return image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    return image.size


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1  # Pillow would decode all pixels to look for EXIF data behind them
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found if found in range(1, 9) else 1
