from __future__ import annotations

import json
import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from PIL import Image

from featurestore.datasets.formats.coco import Coco
from featurestore.datasets.formats.fits import FitsFolder
from finetune.detection.export import (
    coco_dataset,
    coco_results,
    ds9_regions,
    sky_catalogue,
    tell_without_sky,
    write_json,
    write_sky,
)
from finetune.detection.targets import AnnotatedImage, Detections

HEIGHT, WIDTH = 20, 30


def truth(row, name, boxes=(), labels=(), crowd=()):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return AnnotatedImage(
        row,
        name,
        (HEIGHT, WIDTH),
        boxes,
        np.array(labels, np.int64),
        np.array(crowd, bool),
        np.full(len(boxes), np.nan),
    )


def found(boxes=(), labels=(), scores=()):
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(scores, np.float32)
    )


def header(angle=30.0):
    """A tangential projection of 1.8 arcsec a pixel, turned by `angle` degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [150.0, 40.0], [12.0, 7.0], [-0.0005, 0.0005]
    turn = np.radians(angle)
    wcs.wcs.pc = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return wcs.to_header()


@pytest.fixture
def images(tmp_path):
    """Two FITS images, of which the first has a coordinate system."""
    for name, own in (("a", header()), ("b", fits.Header())):
        fits.PrimaryHDU(np.ones((HEIGHT, WIDTH), np.float32), header=own).writeto(tmp_path / f"{name}.fits")
    return FitsFolder(str(tmp_path))


def test_coco_entries():
    annotated = [truth(4, "x/a.png", [[1, 2, 4, 8], [0, 0, 9, 9]], [1, 0], [False, True]), truth(7, "b.png")]
    content = coco_dataset(annotated, ("u", "v"))
    assert content["images"][0] == {"id": 1, "file_name": "x/a.png", "height": 20, "width": 30}
    assert content["categories"] == [{"id": 1, "name": "u"}, {"id": 2, "name": "v"}]
    ids = [(one["id"], one["image_id"], one["category_id"], one["iscrowd"]) for one in content["annotations"]]
    assert ids == [(1, 1, 2, 0), (2, 1, 1, 1)]
    assert content["annotations"][0]["bbox"] == [1, 2, 3, 6]
    assert content["annotations"][0]["area"] == 18
    results = coco_results(annotated, [found(), found([[1, 2, 4, 8]], [1], [0.25])])
    assert results == [{"bbox": [1, 2, 3, 6], "area": 18, "image_id": 2, "category_id": 2, "score": 0.25}]


@pytest.mark.parametrize("suffix", ["png", "fits"])
def test_our_own_reader_reads_the_dataset_back(tmp_path, suffix):
    """Of FITS images too, whose boxes it would count from the bottom if the file did not say otherwise."""
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        Image.new("L", (WIDTH, HEIGHT)).save(path)
    else:
        fits.PrimaryHDU(np.ones((HEIGHT, WIDTH), np.float32)).writeto(path)
    one = truth(0, path.name, [[1, 2, 4, 8], [3, 3, 9, 9]], [0, 0], [False, True])
    write_json(tmp_path / "annotations.json", coco_dataset([one], ("u",)))
    boxes = Coco(str(tmp_path)).table.boxes
    assert boxes.xyxy.tolist() == one.boxes.tolist()
    assert boxes.crowd.tolist() == [False, True]
    assert json.loads((tmp_path / "annotations.json").read_text())["info"] == {"box_origin": "upper"}


def test_the_middle_of_a_pixel_is_where_astropy_says(images):
    """A box around one pixel of the FITS array (column 4, row 3 from the bottom, both from 0)."""
    box = [4, HEIGHT - 1 - 3, 5, HEIGHT - 3]
    catalogue = sky_catalogue(images, [truth(0, "a.fits")], [found([box], [1], [0.5])], ("u", "v"))
    expected = WCS(header()).pixel_to_world(4, 3)
    (row,) = catalogue
    assert (row["ra"], row["dec"]) == pytest.approx((expected.ra.deg, expected.dec.deg), abs=1e-10)
    assert (row["width"], row["height"]) == pytest.approx((1.8, 1.8), rel=1e-6)
    assert row["angle"] == pytest.approx(
        WCS(header()).pixel_to_world(4, 2.5).position_angle(WCS(header()).pixel_to_world(4, 3.5)).wrap_at("180d").deg
    )
    assert abs(row["angle"]) == pytest.approx(30, abs=0.05)
    assert (row["sample_id"], row["class"], row["score"]) == ("a.fits", "v", 0.5)


def test_images_without_coordinates_are_left_out(images):
    annotated = [truth(0, "a.fits"), truth(1, "b.fits")]
    catalogue = sky_catalogue(images, annotated, [found([[1, 1, 3, 3]], [0], [0.5])] * 2, ("u",))
    assert list(catalogue["sample_id"]) == ["a.fits"]
    assert sky_catalogue(images, annotated[1:], [found([[1, 1, 3, 3]], [0], [0.5])], ("u",)) is None
    assert len(sky_catalogue(images, annotated[:1], [found()], ("u",))) == 0


def test_images_without_coordinates_beside_others_are_told(images):
    both = [truth(0, "a.fits"), truth(1, "b.fits")]
    assert "1 of 2 test images have no celestial coordinates" in tell_without_sky(images, both)
    assert tell_without_sky(images, both[:1]) == tell_without_sky(images, both[1:]) == ""


def test_pictures_have_no_sky(tmp_path):
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    write_json(tmp_path / "annotations.json", coco_dataset([truth(0, "a.png", [[1, 2, 4, 8]], [0], [False])], ("u",)))
    assert sky_catalogue(Coco(str(tmp_path)), [truth(0, "a.png")], [found()], ("u",)) is None


def test_catalogue_files(images, tmp_path):
    boxes = [[1, 1, 3, 5], [8, 8, 20, 12]]
    catalogue = sky_catalogue(images, [truth(0, "a.fits")], [found(boxes, [0, 0], [0.9, 0.5])], ("u",))
    files = write_sky(catalogue, tmp_path / "out")
    table = Table.read(files["catalogue.fits"])
    assert table.colnames == [
        "sample_id", "ra", "dec", "width", "height", "angle", "class", "score", "x0", "y0", "x1", "y1",
    ]  # fmt: skip
    assert [str(table[name].unit) for name in ("ra", "width", "angle")] == ["deg", "arcsec", "deg"]
    np.testing.assert_allclose(table["ra"], catalogue["ra"])
    assert [list(row) for row in table["x0", "y0", "x1", "y1"]] == boxes
    text = files["catalogue.reg"].read_text()
    assert text == ds9_regions(catalogue)
    assert text.splitlines()[:2] == ["# Region file format: DS9 version 4.1", "icrs"]
    numbers = [float(value) for value in re.findall(r"box\(([^)]*)\)", text)[1].replace('"', "").split(",")]
    assert numbers == pytest.approx(
        [catalogue[1][name] for name in ("ra", "dec", "width", "height", "angle")], abs=1e-3
    )
    assert "text={u 0.90} tag={a.fits}" in text


def test_header_of_a_compressed_image(tmp_path):
    image = fits.CompImageHDU(np.ones((HEIGHT, WIDTH), np.float32), header=header(0))
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "a.fits.fz")
    assert FitsFolder(str(tmp_path)).header(0)["CRVAL1"] == 150
