from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featurestore.datasets.columns import ColumnChoice, sample_fields
from featurestore.datasets.table import Catalogue
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


def test_fields_of_every_column(csv: WriteCsv) -> None:
    text = "file,label,label_bar,split,group,id\nb.png,round,1,val,g1,B\n./a.png,disk,,Train,,A\n"
    fields, paths = sample_fields(csv(text), FOUND)
    assert paths == ("images/b.png", "a.png")
    assert fields["sample_ids"] == ("B", "A")
    assert fields["classes"] == {"label": ("disk", "round"), "label_bar": ("1",)}
    assert {name: labels.tolist() for name, labels in fields["labels"].items()} == {
        "label": [1, 0],
        "label_bar": [0, -1],
    }
    assert fields["splits"].tolist() == ["valid", "train"]
    assert fields["groups"].tolist() == ["g1", ""]
    assert fields["fingerprints"].tolist() == [2, 1]


def test_fields_of_a_bare_catalogue(csv: WriteCsv) -> None:
    fields, paths = sample_fields(csv("image\na.png\nimages/b.png\n"), FOUND)
    assert fields["sample_ids"] == paths == ("a.png", "images/b.png")
    assert fields["labels"] == {}
    assert fields["splits"].tolist() == ["", ""]
    assert fields["groups"] is None


def test_columns_may_be_chosen(csv: WriteCsv) -> None:
    fields, _ = sample_fields(
        csv("file,label,png,shape\nx,1,a.png,disk\ny,2,b.png,round\n"), FOUND, ColumnChoice("png", ["shape"])
    )
    assert list(fields["labels"]) == ["shape"]


def test_rows_without_an_image_are_refused(csv: WriteCsv) -> None:
    with pytest.raises(LabelMismatchError, match=r"1 rows name an image that is not there: c\.png"):
        sample_fields(csv("file\na.png\nb.png\nc.png\n"), FOUND)


def test_images_without_a_row_are_refused(csv: WriteCsv) -> None:
    with pytest.raises(LabelMismatchError, match=r"1 images have no row: images/b\.png"):
        sample_fields(csv("file\na.png\n"), FOUND)


def test_no_column_with_files(csv: WriteCsv) -> None:
    with pytest.raises(
        DatasetError, match=r"no column names the image files; there are objid, ra .*Call it one of file"
    ):
        sample_fields(csv("objid,ra\n1,2\n"), FOUND)


def test_a_row_without_an_id(csv: WriteCsv) -> None:
    with pytest.raises(DatasetError, match="row 2 of the catalogue has no id"):
        sample_fields(csv("file,id\na.png,1\nb.png,\n"), FOUND)


def test_positions_on_the_sky(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.csv"
    path.write_text("file,RA_deg,Dec_deg\na.png,1.5,-2\nb.png,,3\nc.png,12:30:00,4\nd.png,10,-99\n")
    fields, _ = sample_fields(Catalogue(path), {f"{name}.png": 0 for name in "abcd"})
    np.testing.assert_array_equal(fields["sky"], [[1.5, -2], [np.nan, 3], [np.nan, 4], [np.nan, np.nan]])


def test_the_notice_tells_which_columns_are_used_and_which_are_left(csv: WriteCsv) -> None:
    text = "File, LABEL ,split,group,id,ra,dec,fr,morphology,\na.png,x,,g,1,1,1,2,e,\nimages/b.png,y,,h,2,1,1,1,s,\n"
    assert sample_fields(csv(text), FOUND)[0]["notice"] == (
        "Columns of sky.csv: images from File; labels from LABEL; splits from split; groups from group; ids from id; "
        "positions from ra, dec. Not used: fr, morphology, (no name)."
    )


def test_labels_are_never_ignored_without_a_word(csv: WriteCsv) -> None:
    catalogue = csv("file,fr,fold\na.png,1,train\nimages/b.png,2,test\n")
    fields, _ = sample_fields(catalogue, FOUND)
    assert fields["labels"] == {}
    assert fields["notice"] == (
        "Columns of sky.csv: images from file. Not used: fr, fold. There are no labels. To choose, end DATA by "
        ",labels=COLUMN,split=COLUMN (extract: --label-column, --split-column)."
    )
    fields, _ = sample_fields(catalogue, FOUND, ColumnChoice(labels="fr", split="fold"))
    assert (fields["classes"], fields["splits"].tolist()) == ({"fr": ("1", "2")}, ["train", "test"])
    assert fields["notice"] == "Columns of sky.csv: images from file; labels from fr; splits from fold."


@pytest.mark.parametrize("choice", [ColumnChoice(labels="bar"), ColumnChoice(split="bar"), ColumnChoice(file="bar")])
def test_columns_that_are_not_there(csv: WriteCsv, choice: ColumnChoice) -> None:
    with pytest.raises(UnknownNameError, match="unknown catalogue column 'bar'"):
        sample_fields(csv("file,label\na.png,x\nimages/b.png,y\n"), FOUND, choice)


def test_missing_labels_groups_and_splits(csv: WriteCsv) -> None:
    catalogue = csv("file,label,group,split\na.png,NA,nan,NaN\nimages/b.png,SA,-1,test\n")
    fields, _ = sample_fields(catalogue, FOUND)
    assert (fields["classes"], fields["labels"]["label"].tolist()) == ({"label": ("SA",)}, [-1, 0])
    assert (fields["groups"].tolist(), fields["splits"].tolist()) == (["", ""], ["", "test"])
    assert "label: 1 of 2 samples have no label (1 NA)." in fields["notice"]
    assert "group: 2 of 2 samples belong to no group (1 -1, 1 nan)." in fields["notice"]
    assert sample_fields(catalogue, FOUND, ColumnChoice(keep="NA"))[0]["classes"] == {"label": ("NA", "SA")}


def test_a_row_without_a_file_name(csv: WriteCsv) -> None:
    with pytest.raises(DatasetError, match="row 2 of the catalogue names no file"):
        sample_fields(csv("file,label\na.png,1\n,2\n"), FOUND)


def test_names_are_matched_as_people_write_them(csv: WriteCsv) -> None:
    _, paths = sample_fields(csv("file\nC:\\sky\\images\\b.png\n./a.png\n"), FOUND)
    assert paths == ("images/b.png", "a.png")
