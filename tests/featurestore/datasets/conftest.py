"""Small images, written where a test wants them, and the real data that lies beside the project."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

SHARED = Path(__file__).parents[4] / "shared" / "data"


def pixels_of(number: int, shape: tuple[int, ...] = (6, 8)) -> np.ndarray:
    """Pixels that differ from number to number."""
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """The bytes of an image file."""

    def apply(image: np.ndarray | Image.Image, kind: str = "png", **options: Any) -> bytes:
        file = BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
        return file.getvalue()

    return apply


@pytest.fixture
def write_images(tmp_path: Path, encode: Callable[..., bytes]) -> Callable[..., Path]:
    """Write one numbered image a path, PNG or FITS by its suffix, and return the folder."""

    def write(*paths: str) -> Path:
        for number, name in enumerate(paths):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if ".fits" in name:
                fits.writeto(path, pixels_of(number).astype(np.float32))
            else:
                path.write_bytes(encode(pixels_of(number)))
        return tmp_path

    return write


@pytest.fixture
def write_json() -> Callable[[Path, Any], None]:
    def write(path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    return write


@pytest.fixture
def write_voc() -> Callable[..., None]:
    """Write a Pascal-VOC annotation of an image of 6 x 8 pixels; an object is its class and the corners of its box."""

    def write(path: Path, *objects: tuple[str, int, int, int, int]) -> None:
        boxes = (
            f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for name, x0, y0, x1, y1 in objects
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        size = "<size><width>8</width><height>6</height><depth>1</depth></size>"
        path.write_text(f"<annotation>{size}{''.join(boxes)}</annotation>")

    return write


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """A folder of real data beside the project; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"{name} is not on this machine")
        return SHARED / name

    return find


@pytest.fixture
def expected_pixels() -> Callable[..., np.ndarray]:
    """The pixels that `write_images` wrote, by number."""
    return pixels_of
