from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.datasets.formats.table_folder import CatalogueFolder
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError, SkyprobeError
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


CELLS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Z", "C")), max_size=4) | st.sampled_from(
    ["a.png", "b.png", "nan", "-1", "train", "1.0", "1", "9" * 5000, "\\\\", "../a.png", "/a.png", "1e400"]
)


@pytest.fixture
def two_images(write_images: WriteImages) -> Path:
    return write_images("a.png", "b.png")


# Each example writes over the file of the one before.
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["file", "label", " class", "split", "group", "id", "ra", "dec", "x", ""]), unique=True),
    st.lists(st.lists(CELLS, min_size=10, max_size=10), max_size=3),
)
def test_any_catalogue_opens_or_says_why(two_images: Path, header: list[str], rows: list[list[str]]) -> None:
    with (two_images / "sky.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *(row[: len(header)] for row in rows)])
    with suppress(SkyprobeError):
        table = CatalogueFolder(str(two_images)).table
        assert len(table) == 2
        assert not {"nan", "-1"} & {name for names in table.classes.values() for name in names}
