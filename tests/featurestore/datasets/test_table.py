from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Column, MaskedColumn, Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from featurestore.datasets.table import Catalogue, find_catalogue, require_catalogue
from featurestore.errors import DatasetError, SkyprobeError, UnknownNameError

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


def test_spaces_around_names_and_values_do_not_count(csv: WriteCsv) -> None:
    catalogue = csv('file, label ,  split\n1.png, "a, b",train\n2.png,c , test\n')
    assert catalogue.names == ["file", "label", "split"]
    assert catalogue.column("label") == ["a, b", "c"]
    assert catalogue.column("split") == ["train", "test"]
    with pytest.raises(DatasetError, match="two columns have the same name: file"):
        csv("file, file\na,b\n")


def test_what_spreadsheets_add_does_not_count(csv: WriteCsv) -> None:
    catalogue = csv("file,label,,\na.png,x,,\n,,,\nb.png,y,,\n,,,\n")
    assert catalogue.column("file") == ["a.png", "b.png"]
    assert catalogue.column("label") == ["x", "y"]


@pytest.mark.parametrize("name", ["sky.ecsv", "sky.fits", "sky.parquet"])
def test_numbers_of_32_bits_are_what_people_wrote(tmp_path: Path, name: str) -> None:
    shares = np.array([0.1, 2, 1e-7], np.float32)
    if name == "sky.parquet":
        parquet.write_table(pa.table({"share": pa.array([*shares, None], pa.float32())}), tmp_path / name)
    else:
        Table({"share": MaskedColumn([*shares, 0], mask=[0, 0, 0, 1], dtype=np.float32)}).write(tmp_path / name)
    assert Catalogue(tmp_path / name).column("share") == ["0.1", "2", "1e-07", None]


@pytest.mark.parametrize("name", ["sky.ecsv", "sky.fits"])
def test_angles_have_the_unit_that_the_file_states(tmp_path: Path, name: str) -> None:
    units = {"ra": "arcmin", "dec": "rad", "b": "deg", "l": None, "v": "km/s", "t": "km/s"}
    table = Table({key: Column(["x"] if key == "t" else [0.5], unit=unit) for key, unit in units.items()})
    table.write(tmp_path / name)
    catalogue = Catalogue(tmp_path / name)
    angles = [catalogue.degrees(key)[0] for key in ("ra", "dec", "b", "l")]
    np.testing.assert_allclose(angles, [0.5 / 60, math.degrees(0.5), 0.5, 0.5], rtol=1e-12)
    assert math.isnan(catalogue.degrees("t")[0])
    with pytest.raises(DatasetError, match=r"the catalogue cannot be read: 'km / s' .* not convertible.*sky"):
        catalogue.degrees("v")


def test_tabs_instead_of_commas(tmp_path: Path) -> None:
    (tmp_path / "sky.tsv").write_text("file\tlabel\tgroup\na, b.png\t\tg\n")
    assert find_catalogue(tmp_path) == tmp_path / "sky.tsv"
    catalogue = Catalogue(tmp_path / "sky.tsv")
    assert [catalogue.column(name) for name in catalogue.names] == [["a, b.png"], [None], ["g"]]


def test_ecsv_tables_become_text(tmp_path: Path) -> None:
    columns = {"file": ["007", "b"], "label": MaskedColumn([1, 2], mask=[False, True])}
    Table(columns).write(tmp_path / "sky.ecsv")
    catalogue = Catalogue(find_catalogue(tmp_path) or tmp_path)
    assert (catalogue.column("file"), catalogue.column("label")) == (["007", "b"], ["1", None])


@pytest.mark.parametrize("name", ["sky.csv", "sky.ecsv", "sky.parquet", "sky.fits"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DatasetError, match="the catalogue cannot be read: it is not a regular file"):
        Catalogue(tmp_path / name)


def test_spaces_in_the_names_of_parquet_columns(tmp_path: Path) -> None:
    path = tmp_path / "sky.parquet"
    parquet.write_table(pa.table({" file ": ["a.png"], "a.b ": ["x"]}), path)
    catalogue = Catalogue(path)
    assert catalogue.names == ["file", "a.b"]
    assert (catalogue.column("file"), catalogue.column("a.b")) == (["a.png"], ["x"])


def test_several_values_a_row_are_no_text(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"label": [["a", "b"]]}), tmp_path / "sky.parquet")
    Table({"label": [[1, 2]]}).write(tmp_path / "sky.fits")
    for name in ("sky.parquet", "sky.fits"):
        with pytest.raises(DatasetError, match="the column 'label' holds several values a row"):
            Catalogue(tmp_path / name).column("label")


# Each example writes over the file of the one before.
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["sky.csv", "sky.parquet", "sky.fits"]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), min_size=1, max_size=4),
)
def test_damaged_files_are_the_projects_own_errors(
    tmp_path: Path, name: str, changes: list[tuple[float, bytes]]
) -> None:
    path, table = tmp_path / name, Table({"file": ["a.png", "b.png"], "label": ["x", "y"], "ra": [1.5, 2.5]})
    if name.endswith(".parquet"):
        parquet.write_table(pa.table({column: table[column].tolist() for column in table.colnames}), path)
    else:
        table.write(path, overwrite=True)
    data = path.read_bytes()
    for place, change in changes:
        start = int(place * len(data))
        data = data[:start] + change + data[start + len(change) // 2 :]
    path.write_bytes(data)
    try:
        catalogue = Catalogue(path)
        for column in catalogue.names:
            assert all(value is None or value.strip() == value for value in catalogue.column(column))
    except SkyprobeError as error:
        assert str(path) in str(error)


def test_huge_fields_and_enormous_numbers(csv: WriteCsv) -> None:
    with pytest.raises(DatasetError, match="the catalogue cannot be read: field larger than field limit"):
        csv(f"file,label\na.png,{'x' * 200_000}\n")
    assert csv(f"file,label\na.png,{'1' * 5000}\n").column("label") == ["1" * 5000]


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
