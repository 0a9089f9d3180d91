from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from featurestore.datasets.annotation.frames import fit_boxes
from featurestore.datasets.annotation.records import AnnotatedImage, AnnotatedObject, Edges
from featurestore.datasets.decoding.images import decode_image

ORIENTATION = 0x112
STORED = (12, 7)
"""Width and height in the file."""


def image_of(xyxy: Edges, size: tuple[int | None, int | None], path: str = "a.png") -> AnnotatedImage:
    return AnnotatedImage(path, "", size[1], (AnnotatedObject(xyxy, "x", crowd=False),), width=size[0])


def write_turned(path: Path, orientation: int, bright: Edges, stored: tuple[int, int] = STORED) -> None:
    """A picture of zeros with 255 in a box, which EXIF turns."""
    x0, y0, x1, y1 = map(int, bright)
    pixels = np.zeros((stored[1], stored[0]), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def box_of(image: AnnotatedImage) -> Edges:
    return image.objects[0].xyxy


@st.composite
def drawn_boxes(draw: st.DrawFn) -> Edges:
    x, y = draw(st.integers(0, 11)), draw(st.integers(0, 6))
    return x, y, draw(st.integers(x + 1, 12)), draw(st.integers(y + 1, 7))


# Each example writes over the file of the one before.
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn_boxes(), st.integers(1, 8), st.sampled_from([1, 2, 5]))
def test_boxes_of_the_stored_picture_are_turned_with_it(
    tmp_path: Path, xyxy: Edges, orientation: int, scale: int
) -> None:
    """The oracle are the pixels: what was bright in the box before is what is bright in it after."""
    write_turned(tmp_path / "a.png", orientation, xyxy)
    write_turned(tmp_path / "b.png", 6, xyxy)  # tells where orientations 2, 3, 4 do not
    drawn = image_of(tuple(scale * edge for edge in xyxy), (scale * 12, scale * 7))  # type: ignore[arg-type]
    fitted = fit_boxes([drawn, replace(drawn, path="b.png")], tmp_path).images[0]
    shown = decode_image((tmp_path / "a.png").read_bytes(), "a.png")
    x0, y0, x1, y1 = (round(edge) for edge in box_of(fitted))
    expected = np.zeros_like(shown)
    expected[y0:y1, x0:x1] = 255
    np.testing.assert_array_equal(shown, expected)
    assert fitted.size == shown.shape[::-1]


def test_boxes_of_the_shown_picture_stay(tmp_path: Path) -> None:
    write_turned(tmp_path / "a.png", 6, (0, 0, 1, 1))
    fitted = fit_boxes([image_of((1, 2, 3, 4), (7, 12))], tmp_path)
    assert (box_of(fitted.images[0]), fitted.notice) == ((1, 2, 3, 4), "")


@pytest.mark.parametrize(("orientation", "size"), [(3, STORED), (2, STORED), (6, (None, None))])
def test_what_a_size_does_not_tell_is_told_to_the_user(
    tmp_path: Path, orientation: int, size: tuple[int | None, int | None]
) -> None:
    write_turned(tmp_path / "a.png", orientation, (0, 0, 1, 1))
    fitted = fit_boxes([image_of((1, 2, 3, 4), size)], tmp_path)
    assert box_of(fitted.images[0]) == (1, 2, 3, 4)
    assert fitted.notice == (
        "Boxes: 1 pictures are turned by EXIF, and their annotation does not tell before or after: their boxes are "
        "taken to count in the picture as it is shown."
    )


def test_turned_and_scaled_boxes_are_counted(tmp_path: Path) -> None:
    write_turned(tmp_path / "a.png", 8, (0, 0, 1, 1))
    assert fit_boxes([image_of((2, 2, 4, 4), (24, 14))], tmp_path).notice == (
        "Boxes: boxes of 1 pictures are turned with them, as EXIF says; boxes of 1 pictures are scaled, since they "
        "were drawn on another size."
    )


def test_a_nearly_square_picture_is_told_by_its_exact_size(tmp_path: Path) -> None:
    write_turned(tmp_path / "a.png", 6, (0, 0, 1, 1), (200, 199))
    fitted = fit_boxes([image_of((0, 0, 1, 1), (200, 199))], tmp_path)
    assert box_of(fitted.images[0]) == (198, 0, 199, 1)


def test_a_picture_of_another_shape_is_counted_and_left(tmp_path: Path) -> None:
    write_turned(tmp_path / "a.png", 1, (0, 0, 1, 1))
    fitted = fit_boxes([image_of((1, 2, 3, 4), (100, 100))], tmp_path)
    assert (box_of(fitted.images[0]), fitted.images[0].size) == ((1, 2, 3, 4), (100, 100))
    assert "1 pictures have another shape than their annotation states" in fitted.notice
    assert "a.png is 12 x 7, not 100 x 100" in fitted.notice


def test_files_that_are_no_pictures_are_left_for_reading(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    image = image_of((1, 2, 3, 4), STORED)
    assert fit_boxes([image, replace(image, path="gone.png")], tmp_path).images[0] == image


def test_no_header_is_read_without_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("featurestore.datasets.annotation.frames.read_frame", refuse)
    images = [AnnotatedImage("a.png", "", 6, (), width=8), image_of((1, 2, 3, 4), STORED, "b.fits")]
    assert box_of(fit_boxes(images, tmp_path).images[1]) == (1, 3, 3, 5)


def test_coco_and_voc_pictures_that_exif_turns(
    tmp_path: Path, write_json: Callable[[Path, object], None], write_voc: Callable[..., None]
) -> None:
    from featurestore.datasets import open_dataset

    for kind in ("coco", "voc"):
        (tmp_path / kind).mkdir()
        write_turned(tmp_path / kind / "a.png", 6, (4, 1, 6, 3), (8, 6))
    images = [{"id": 1, "file_name": "a.png", "width": 8, "height": 6}]
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 1, 2, 2]}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    write_json(tmp_path / "coco" / "annotations.json", content)
    write_voc(tmp_path / "voc" / "a.xml", ("x", 5, 2, 6, 3))
    for kind in ("coco", "voc"):
        dataset = open_dataset(f"{kind}:{tmp_path}/{kind}")
        x0, y0, x1, y1 = dataset.table.boxes.xyxy[0].astype(int)
        image = dataset.read(0).image
        assert (image[y0:y1, x0:x1] == 255).all() and (image == 255).sum() == (y1 - y0) * (x1 - x0)
