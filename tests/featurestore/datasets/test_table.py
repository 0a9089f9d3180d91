from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import MaskedColumn, Table
from pyarrow import parquet

from featurestore.datasets.table import Catalogue, find_catalogue, require_catalogue
from featurestore.errors import DatasetError, LabelMismatchError, UnknownNameError

FOUND = {"a.png": 1, "images/b.png": 2}
WriteCsv = Callable[[str], Catalogue]


@pytest.fixture
def csv(tmp_path: Path) -> WriteCsv:
    def write(text: str) -> Catalogue:
        path = tmp_path / "sky.csv"
        path.write_text(text, encoding="utf-8")
        return Catalogue(path)

    return write


def test_text_stays_text(csv: WriteCsv) -> None:
    catalogue = csv("\ufefffile,label\n001.png, 01 \n\n002.png,NA\n003.png,\n")
    assert catalogue.names == ["file", "label"]
    assert catalogue.column("file") == ["001.png", "002.png", "003.png"]
    assert catalogue.column("label") == ["01", "NA", None]


def test_parquet_values_become_text(tmp_path: Path) -> None:
    path = tmp_path / "sky.parquet"
    columns = {
        "whole": [1.0, math.nan, 3.0],
        "part": [0.5, None, 2.0],
        "int": [1, None, 12],
        "bytes": [b"x", b"", None],
    }
    parquet.write_table(pa.table(columns), path)
    catalogue = Catalogue(path)
    assert catalogue.names == list(columns)
    assert catalogue.column("whole") == ["1", None, "3"]
    assert catalogue.column("part") == ["0.5", None, "2"]
    assert catalogue.column("int") == ["1", None, "12"]
    assert catalogue.column("bytes") == ["x", None, None]


def test_fits_tables_become_text(tmp_path: Path) -> None:
    path = tmp_path / "sky.fits"
    Table({"file": ["a.png", "b.png"], "label": MaskedColumn([1, 2], mask=[False, True])}).write(path)
    catalogue = Catalogue(path)
    assert catalogue.column("file") == ["a.png", "b.png"]
    assert catalogue.column("label") == ["1", None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("file,file\na,b\n", "two columns have the same name"),
        ("file,label\na,b\nc\n", "row 2 has 1 values for 2 columns"),
        ("file,label\na,b,c\n", "row 1 has 3 values for 2 columns"),
        ('file\n"a', "unexpected end of data"),
    ],
)
def test_csv_that_makes_no_sense(csv: WriteCsv, text: str, reason: str) -> None:
    with pytest.raises(DatasetError, match=f"the catalogue cannot be read: {reason}"):
        csv(text)


@pytest.mark.parametrize("name", ["sky.csv", "sky.parquet", "sky.fits"])
def test_files_that_are_no_tables(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00" * 50)
    with pytest.raises(DatasetError, match="the catalogue cannot be read"):
        Catalogue(tmp_path / name)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        Catalogue(tmp_path / "sky.csv")


def test_an_unknown_column_offers_near_ones(csv: WriteCsv) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown catalogue column 'lable'.*Did you mean label"):
        csv("file,label\na,b\n").column("lable")


def test_columns_are_found_in_either_case(csv: WriteCsv) -> None:
    catalogue = csv("Path,FILENAME,Label,label_bar,labels\na,b,c,d,e\n")
    assert catalogue.find("file", "filename", "path") == "FILENAME"
    assert catalogue.find("split") is None
    assert catalogue.label_columns() == ["Label", "label_bar"]


def test_fields_of_every_column(csv: WriteCsv) -> None:
    text = "file,label,label_bar,split,group,id\nb.png,round,1,val,g1,B\n./a.png,disk,,Train,,A\n"
    fields, paths = csv(text).fields(FOUND, None, ())
    assert paths == ("images/b.png", "a.png")
    assert fields["sample_ids"] == ("B", "A")
    assert fields["classes"] == {"label": ("disk", "round"), "label_bar": ("1",)}
    assert {name: labels.tolist() for name, labels in fields["labels"].items()} == {
        "label": [1, 0],
        "label_bar": [0, -1],
    }
    assert fields["splits"].tolist() == ["valid", "train"]
    assert fields["groups"].tolist() == ["g1", "A"]  # a group of its own
    assert fields["stamps"].tolist() == [2, 1]


def test_fields_of_a_bare_catalogue(csv: WriteCsv) -> None:
    fields, paths = csv("image\na.png\nimages/b.png\n").fields(FOUND, None, ())
    assert fields["sample_ids"] == paths == ("a.png", "images/b.png")
    assert fields["labels"] == {}
    assert fields["splits"].tolist() == ["", ""]
    assert fields["groups"] is None


def test_columns_may_be_chosen(csv: WriteCsv) -> None:
    fields, _ = csv("file,label,png,shape\nx,1,a.png,disk\ny,2,b.png,round\n").fields(FOUND, "png", ["shape"])
    assert list(fields["labels"]) == ["shape"]


def test_rows_without_an_image_are_refused(csv: WriteCsv) -> None:
    with pytest.raises(LabelMismatchError, match=r"1 rows name an image that is not there: c\.png"):
        csv("file\na.png\nb.png\nc.png\n").fields(FOUND, None, ())


def test_images_without_a_row_are_refused(csv: WriteCsv) -> None:
    with pytest.raises(LabelMismatchError, match=r"1 images have no row: images/b\.png"):
        csv("file\na.png\n").fields(FOUND, None, ())


def test_no_column_with_files(csv: WriteCsv) -> None:
    with pytest.raises(
        DatasetError, match=r"no column names the image files; there are objid, ra .*Call it one of file"
    ):
        csv("objid,ra\n1,2\n").fields(FOUND, None, ())


def test_a_row_without_an_id(csv: WriteCsv) -> None:
    with pytest.raises(DatasetError, match="row 2 of the catalogue has no id"):
        csv("file,id\na.png,1\nb.png,\n").fields(FOUND, None, ())


def test_catalogues_in_a_folder(tmp_path: Path) -> None:
    assert find_catalogue(tmp_path) is None
    with pytest.raises(DatasetError, match="no catalogue in the folder"):
        require_catalogue(tmp_path)
    for name in ("sky.csv", ".hidden.csv", "image.fits"):
        (tmp_path / name).touch()
    assert find_catalogue(tmp_path) == require_catalogue(tmp_path) == tmp_path / "sky.csv"
    (tmp_path / "catalogue.fits").touch()
    with pytest.raises(DatasetError, match=r"several catalogues: catalogue\.fits, sky\.csv"):
        find_catalogue(tmp_path)


def test_positions_on_the_sky(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.csv"
    path.write_text("file,RA_deg,Dec_deg\na.png,1.5,-2\nb.png,,3\nc.png,12:30:00,4\nd.png,10,-99\n")
    fields, _ = Catalogue(path).fields({f"{name}.png": 0 for name in "abcd"}, None, ())
    np.testing.assert_array_equal(fields["sky"], [[1.5, -2], [np.nan, 3], [np.nan, 4], [np.nan, np.nan]])
