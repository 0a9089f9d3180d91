from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from featurestore.datasets.formats.voc import Voc, read_splits
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError
from featurestore.testing import DatasetConformance

WriteImages = Callable[..., Path]
WriteVoc = Callable[..., None]
Write = Callable[[Path, str], None]


@pytest.fixture
def write() -> Write:
    def apply(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return apply


@pytest.fixture
def devkit(write_images: WriteImages, write_voc: WriteVoc, write: Write) -> Path:
    """Three images in the layout of the VOC devkit."""
    root = write_images("JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png", "SegmentationClass/a.png")
    write_voc(root / "Annotations/a.xml", ("2_2", 1, 1, 8, 6))
    write_voc(root / "Annotations/b.xml", ("1_1", 1, 1, 2, 2), ("2_2", 3, 1, 6, 6))
    write_voc(root / "Annotations/c.xml")
    write(root / "ImageSets/Main/train.txt", "a\n")
    write(root / "ImageSets/Main/val.txt", "b\n\n")
    write(root / "ImageSets/Main/trainval.txt", "a\nb\n")
    write(root / "ImageSets/Main/jet_train.txt", "a  1\nz -1\n")
    return root


class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, devkit: Path) -> Voc:
        (devkit / "JPEGImages/c.png").write_text("no image")
        return Voc(str(devkit))


class TestConformanceOnFits(DatasetConformance):
    @pytest.fixture
    def dataset(self, write_images: WriteImages, write_voc: WriteVoc) -> Voc:
        root = write_images("train/a.fits", "test/b.fits")
        write_voc(root / "train/a.xml", ("bent", 1, 1, 8, 6))
        write_voc(root / "test/b.xml", ("bent", 2, 2, 3, 3))
        return Voc(str(root))


def test_the_devkit_layout(devkit: Path) -> None:
    table = Voc(str(devkit)).table
    assert table.sample_ids == ("JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png")
    assert table.splits.tolist() == ["train", "valid", ""]
    assert table.box_classes == ("1_1", "2_2")
    assert table.labels["single_object"].tolist() == [1, -1, -1]
    assert table.labels["largest_object"].tolist() == [1, 1, -1]
    assert table.boxes is not None
    assert table.boxes.xyxy.tolist() == [[0, 0, 8, 6], [0, 0, 2, 2], [2, 0, 6, 6]]
    assert not table.notice


def test_images_beside_their_annotations(write_images: WriteImages, write_voc: WriteVoc) -> None:
    root = write_images("train/a.b.png", "val/a.b.png", "c.png")
    for name in ("train/a.b", "val/a.b", "c"):
        write_voc(root / f"{name}.xml")
    table = Voc(str(root)).table
    assert dict(zip(table.sample_ids, table.splits.tolist(), strict=True)) == {
        "c.png": "",
        "train/a.b.png": "train",
        "val/a.b.png": "valid",
    }


@pytest.mark.parametrize("image", ["PNGImages/a.png", "images/a.png", "FITSImages/a.fits.gz", "a.png"])
def test_folders_of_images(write_images: WriteImages, write_voc: WriteVoc, image: str) -> None:
    root = write_images(image)
    write_voc(root / "annotations/a.xml", ("x", 1, 1, 2, 2))
    assert Voc(str(root)).table.sample_ids == (image,)


def test_versions_of_image_sets(devkit: Path, write: Write) -> None:
    """ClaRAN calls its sets trainD1, testD1, trainD3 ...; only the images of one version may be here."""
    for file in (devkit / "ImageSets/Main").iterdir():
        file.unlink()
    write(devkit / "ImageSets/Main/trainD1.txt", "a\nc\n")
    write(devkit / "ImageSets/Main/testD1.txt", "b\n")
    write(devkit / "ImageSets/Main/trainD3.txt", "a_infrared\nb_infrared\n")
    table = Voc(str(devkit)).table
    assert table.splits.tolist() == ["train", "test", "train"]
    assert table.notice == "Image sets left out, since none of their images is here: trainD3.txt."


def test_trainval_alone_is_train(devkit: Path) -> None:
    for name in ("train", "val"):
        (devkit / f"ImageSets/Main/{name}.txt").unlink()
    assert Voc(str(devkit)).table.splits.tolist() == ["train", "train", ""]


def test_a_set_that_names_missing_images(devkit: Path, write: Write) -> None:
    write(devkit / "ImageSets/Main/test.txt", "c\nz\n")
    with pytest.raises(LabelMismatchError, match=r"1 names of the image set are not there: z .*test\.txt"):
        Voc(str(devkit))


def test_an_image_in_two_splits(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "ImageSets/Main/train.txt", "a\nb\n")
    write(tmp_path / "ImageSets/Main/test.txt", "b\n")
    with pytest.raises(DatasetError, match=r"b belongs to the splits test and train .*train\.txt"):
        read_splits(tmp_path, ["a", "b"])


def test_an_annotation_without_an_image_and_the_other_way(devkit: Path, write_voc: WriteVoc) -> None:
    (devkit / "JPEGImages/a.png").rename(devkit / "JPEGImages/z.png")
    with pytest.raises(LabelMismatchError, match=r"1 rows name an image that is not there: Annotations/a\.xml"):
        Voc(str(devkit))
    (devkit / "Annotations/a.xml").unlink()
    with pytest.raises(LabelMismatchError, match=r"1 images have no row: JPEGImages/z\.png"):
        Voc(str(devkit))


def test_two_images_of_one_name(write_images: WriteImages, write_voc: WriteVoc) -> None:
    root = write_images("JPEGImages/a.png", "PNGImages/a.png")
    write_voc(root / "Annotations/a.xml")
    with pytest.raises(DatasetError, match=r"JPEGImages/a\.png and PNGImages/a\.png have the same name"):
        Voc(str(root))


def test_boxes_on_fits_images_count_from_the_bottom(write_images: WriteImages, write_voc: WriteVoc) -> None:
    root = write_images("a.fits")
    raw = fits.getdata(root / "a.fits")
    write_voc(root / "a.xml", ("x", 3, 2, 6, 4))  # FITS pixels, counted from 1
    dataset = Voc(str(root))
    (edges,) = dataset.table.boxes.xyxy.astype(int)
    x0, y0, x1, y1 = edges
    np.testing.assert_array_equal(dataset.read(0).image[y0:y1, x0:x1], raw[1:4, 2:6][::-1])
    assert Voc(str(root), box_origin="upper").table.boxes.xyxy.tolist() == [[2, 1, 6, 4]]


def test_nothing_to_read(write_images: WriteImages, tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError):
        Voc(str(tmp_path))
    with pytest.raises(DatasetError, match="no Pascal-VOC annotation"):
        Voc(str(write_images("a.png")))


def test_other_xml_is_not_detected(write_images: WriteImages, write: Write, write_voc: WriteVoc) -> None:
    root = write_images("a.png")
    assert not Voc.detects(root / "a.png")
    write(root / "a.xml", "<PAMDataset/>")
    assert not Voc.detects(root)
    write_voc(root / "a.xml")
    assert Voc.detects(root)
    (root / "a.xml").unlink()
    os.mkfifo(root / "a.xml")  # reading it would wait for ever
    assert not Voc.detects(root)
