from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from featurestore.datasets.formats.fits import FitsFolder
from featurestore.datasets.opening import open_dataset
from featurestore.errors import (
    DatasetError,
    EmptyDatasetError,
    LabelMismatchError,
    UnknownNameError,
    UnreadableImageError,
)
from featurestore.testing import DatasetConformance

WriteImages = Callable[..., Path]


class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, write_images: WriteImages) -> FitsFolder:
        root = write_images("train/FRI/a.fits", "train/FRII/b.fits.gz", "test/FRI/c.fits")
        fits.writeto(root / "test/FRI/nan.fits", np.full((3, 3), np.nan))
        fits.writeto(root / "test/FRII.fits", np.array([[1.0, np.nan], [2.0, 3.0]]))
        (root / "test/FRII").mkdir()
        (root / "test/FRII.fits").rename(root / "test/FRII/gap.fits")
        return FitsFolder(str(root))


class TestConformanceOnRealData(DatasetConformance):
    @pytest.fixture
    def dataset(self, shared: Callable[[str], Path]) -> FitsFolder:
        return FitsFolder(str(shared("first_hdr_fits")))


def test_class_folders_label_the_images(write_images: WriteImages, expected_pixels: Callable[..., np.ndarray]) -> None:
    dataset = FitsFolder(str(write_images("FRII/a.fits", "FRI/b.fits")))
    assert dataset.table.sample_ids == ("FRI/b.fits", "FRII/a.fits")
    assert dataset.table.classes == {"class": ("FRI", "FRII")}
    assert dataset.decoder == "astropy"
    np.testing.assert_array_equal(dataset.read(0).image, expected_pixels(1)[::-1])


@pytest.mark.parametrize("name", ["sky.csv", "sky.parquet", "catalogue.fits"])
def test_a_catalogue_labels_the_images(write_images: WriteImages, name: str) -> None:
    root = write_images("images/a.fits", "images/b.fits")
    table = Table({"file": ["b.fits", "a.fits"], "label": ["round", "disk"]})
    if name.endswith("parquet"):
        table.to_pandas().to_parquet(root / name)
    else:
        table.write(root / name)
    dataset = FitsFolder(str(root))
    assert dataset.table.sample_ids == ("images/b.fits", "images/a.fits")
    assert dataset.table.labels["label"].tolist() == [1, 0]


def test_a_fits_catalogue_of_any_name_is_no_image(write_images: WriteImages) -> None:
    root = write_images("a.fits")
    Table({"file": ["a.fits"], "label": ["x"]}).write(root / "mine.fits")
    assert FitsFolder(str(root), catalogue=str(root / "mine.fits")).table.sample_ids == ("a.fits",)


def test_the_extension_decides_pixels_and_fingerprints(tmp_path: Path) -> None:
    first, second = np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(first, name="SCI"), fits.ImageHDU(second, name="ERR")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    default, named = FitsFolder(str(tmp_path)), FitsFolder(str(tmp_path), extension="ERR")
    np.testing.assert_array_equal(named.read(0).image, second)
    assert default.read(0).digest != named.read(0).digest
    assert default.table.fingerprints[0] != named.table.fingerprints[0]
    with pytest.raises(UnreadableImageError, match="no extension 'DQ'"):
        FitsFolder(str(tmp_path), extension="DQ").read(0)


def test_the_place_of_the_bands_is_an_option(tmp_path: Path) -> None:
    values = np.arange(8 * 6 * 3, dtype=np.float32).reshape(8, 6, 3)
    fits.writeto(tmp_path / "a.fits", values)
    with pytest.raises(UnreadableImageError, match="channels=last"):
        FitsFolder(str(tmp_path)).read(0)
    last, first = (open_dataset(f"fits:{tmp_path},channels={channels}") for channels in ("last", "first"))
    np.testing.assert_array_equal(last.read(0).image, values[::-1])
    assert first.read(0).image.shape == (6, 3, 8)
    assert last.table.fingerprints[0] != first.table.fingerprints[0]
    with pytest.raises(UnknownNameError, match=r"unknown place of the channels 'lost'.*Did you mean last"):
        FitsFolder(str(tmp_path), channels="lost")


def test_label_columns_want_a_catalogue(write_images: WriteImages) -> None:
    with pytest.raises(DatasetError, match="no catalogue in the folder"):
        FitsFolder(str(write_images("a.fits")), labels="shape")


def test_labels_that_do_not_match(write_images: WriteImages) -> None:
    root = write_images("a.fits", "b.fits")
    (root / "sky.csv").write_text("file,label\na.fits,x\n")
    with pytest.raises(LabelMismatchError, match=r"1 images have no row: b\.fits"):
        FitsFolder(str(root))


def test_a_folder_without_fits_files(write_images: WriteImages) -> None:
    with pytest.raises(EmptyDatasetError, match=r"but 1 x \.png .*Accepted: \.fits"):
        FitsFolder(str(write_images("a.png")))
