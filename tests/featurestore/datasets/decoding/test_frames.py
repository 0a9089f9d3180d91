from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featurestore.datasets.decoding.frames import Frame, read_frame

BLANK = Image.fromarray(np.zeros((4, 9), np.uint8))


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_frames_of_formats(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    BLANK.save(path, exif=exif_of(orientation))
    frame = read_frame(path)
    assert frame == Frame(9, 4, orientation)
    assert frame.stored == (9, 4)
    assert frame.shown == ((4, 9) if orientation == 6 else (9, 4))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_impossible_orientation_is_none(tmp_path: Path, orientation: int) -> None:
    BLANK.save(tmp_path / "a.jpg", exif=exif_of(orientation))
    assert read_frame(tmp_path / "a.jpg") == Frame(9, 4)


@pytest.mark.parametrize("data", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 4\n"])
def test_what_is_no_picture_has_no_frame(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    assert read_frame(tmp_path / "a.png") is None
    assert read_frame(tmp_path / "gone.png") is None
    assert read_frame(tmp_path) is None
