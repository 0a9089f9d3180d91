from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featurestore.datasets.formats.image_folder import ImageFolder
from featurestore.errors import EmptyDatasetError, LabelMismatchError, UnreadableImageError
from featurestore.testing import DatasetConformance

WriteImages = Callable[..., Path]


class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, write_images: WriteImages) -> ImageFolder:
        root = write_images("train/disk/a.png", "train/round/b.png", "val/disk/c.png", "test/round/d.png")
        (root / "train/disk/text.png").write_text("no image")
        (root / "train/disk/zero.png").touch()
        whole = (root / "train/disk/a.png").read_bytes()
        (root / "train/round/half.png").write_bytes(whole[: len(whole) // 2])
        return ImageFolder(str(root))


def test_rows_follow_the_sorted_paths(write_images: WriteImages, expected_pixels: Callable[..., np.ndarray]) -> None:
    dataset = ImageFolder(str(write_images("round/b.png", "disk/a.png")))
    assert dataset.table.sample_ids == ("disk/a.png", "round/b.png")
    assert dataset.table.labels["class"].tolist() == [0, 1]
    assert dataset.decoder == "pillow"
    np.testing.assert_array_equal(dataset.read(0).image, expected_pixels(1))


def test_name_and_source(write_images: WriteImages) -> None:
    root = write_images("a.png")
    table = ImageFolder(str(root)).table
    assert table.source == f"image_folder:{root.resolve()}"
    assert table.name.startswith(root.name)
    assert ImageFolder(str(root), name="mine").table.name == "mine"


def test_unreadable_images_keep_their_rows(write_images: WriteImages) -> None:
    root = write_images("a.png", "c.png")
    (root / "b.png").write_text("no image")
    dataset = ImageFolder(str(root))
    assert len(dataset) == 3
    with pytest.raises(UnreadableImageError):
        dataset.read(1)
    assert dataset.read(2).image.shape == (6, 8)


def test_a_changed_image_changes_its_stamp_alone(write_images: WriteImages) -> None:
    root = write_images("a.png", "b.png")
    before = ImageFolder(str(root)).table
    (root / "b.png").write_bytes((root / "b.png").read_bytes() + b"more")
    after = ImageFolder(str(root)).table
    assert (before.fingerprints == after.fingerprints).tolist() == [True, False]


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="no images"):
        ImageFolder(str(tmp_path))


def test_pictures_and_fits_images_are_both_read(write_images: WriteImages) -> None:
    root = write_images("disk/a.png", "disk/b.fits", "round/c.png")
    dataset = ImageFolder(str(root))
    assert dataset.table.sample_ids == ("disk/a.png", "disk/b.fits", "round/c.png")
    assert dataset.decoder == "astropy+pillow"
    assert [dataset.read(row).image.dtype.name for row in range(3)] == ["uint8", "float32", "uint8"]
    assert dataset.table.notice == (
        "2 pictures and 1 FITS images are samples alike; where pictures only show what the FITS files hold, open "
        f"fits:{root}."
    )


def test_what_is_left_out_is_told(write_images: WriteImages) -> None:
    root = write_images("a.png")
    for name in ("b.jxl", "c.fits.zip", "d.zip", "notes.txt", "e.jxl"):
        (root / name).touch()
    assert ImageFolder(str(root)).table.notice == (
        "Files left out, since they are not read as images here: 2 x .jxl, 1 x .fits.zip, 1 x .zip."
    )


def test_loose_images_beside_classes(write_images: WriteImages) -> None:
    with pytest.raises(LabelMismatchError, match="beside class folders"):
        ImageFolder(str(write_images("a.png", "disk/b.png")))
