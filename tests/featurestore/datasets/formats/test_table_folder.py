from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featurestore.datasets.formats.table_folder import CatalogueFolder
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError
from featurestore.testing import DatasetConformance

WriteImages = Callable[..., Path]
CSV = "file,label,split\nb.png,round,train\na.png,,test\n"


class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, write_images: WriteImages) -> CatalogueFolder:
        root = write_images("images/a.png", "images/b.png", "c.fits")
        (root / "sky.csv").write_text(f"{CSV}c.fits,disk,valid\n")
        return CatalogueFolder(str(root))


def test_rows_follow_the_catalogue(write_images: WriteImages, expected_pixels: Callable[..., np.ndarray]) -> None:
    root = write_images("a.png", "b.png")
    (root / "sky.csv").write_text(CSV)
    dataset = CatalogueFolder(str(root))
    assert dataset.table.sample_ids == ("b.png", "a.png")
    assert dataset.table.labels["label"].tolist() == [0, -1]
    np.testing.assert_array_equal(dataset.read(0).image, expected_pixels(1))


def test_the_catalogue_itself_may_be_given(write_images: WriteImages) -> None:
    root = write_images("a.png", "b.png")
    (root / "other.csv").write_text("nothing")
    (root / "sky.csv").write_text(CSV)
    with pytest.raises(DatasetError, match=r"several catalogues: other\.csv, sky\.csv"):
        CatalogueFolder(str(root))
    by_path, by_option = CatalogueFolder(str(root / "sky.csv")), CatalogueFolder(str(root), catalogue=f"{root}/sky.csv")
    assert by_path.table.sample_ids == by_option.table.sample_ids == ("b.png", "a.png")


def test_a_label_column_by_name(write_images: WriteImages) -> None:
    root = write_images("a.png")
    (root / "sky.csv").write_text("file,label,bar\na.png,x,y\n")
    assert CatalogueFolder(str(root), labels="bar").table.classes == {"bar": ("y",)}


def test_one_file_twice_is_refused(write_images: WriteImages) -> None:
    root = write_images("a.png")
    (root / "sky.csv").write_text("file,label\na.png,x\na.png,y\n")
    with pytest.raises(DatasetError, match=r"sample ids occur more than once: a\.png"):
        CatalogueFolder(str(root))


def test_an_unknown_split_is_refused(write_images: WriteImages) -> None:
    root = write_images("a.png")
    (root / "sky.csv").write_text("file,split\na.png,holdout\n")
    with pytest.raises(DatasetError, match=r"unknown splits \['holdout'\]"):
        CatalogueFolder(str(root))


def test_labels_that_do_not_match(write_images: WriteImages) -> None:
    root = write_images("a.png", "b.png")
    (root / "sky.csv").write_text("file\na.png\nz.png\n")
    with pytest.raises(LabelMismatchError, match=r"z\.png"):
        CatalogueFolder(str(root))


def test_no_catalogue_and_no_images(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no catalogue in the folder"):
        CatalogueFolder(str(tmp_path))
    (tmp_path / "sky.csv").write_text(CSV)
    with pytest.raises(EmptyDatasetError, match=r"but 1 x \.csv"):
        CatalogueFolder(str(tmp_path))
