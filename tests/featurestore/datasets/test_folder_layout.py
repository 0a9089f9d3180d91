from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featurestore.datasets.folder_layout import read_layout
from featurestore.errors import DatasetError, LabelMismatchError


def layout(*paths: str) -> dict[str, Any]:
    return read_layout(paths, Path("/sky"))


def test_a_flat_folder_is_unlabelled() -> None:
    fields = layout("a.png", "b.png")
    assert fields["labels"] == fields["classes"] == {}
    assert fields["splits"].tolist() == ["", ""]


def test_folders_are_classes() -> None:
    fields = layout("disk/a.png", "round/deep/b.png", "disk/c.png")
    assert fields["classes"] == {"class": ("disk", "round")}
    assert fields["labels"]["class"].tolist() == [0, 1, 0]
    assert fields["splits"].tolist() == ["", "", ""]


def test_one_class_is_a_dataset() -> None:
    assert layout("disk/a.png")["classes"] == {"class": ("disk",)}


def test_splits_hold_classes() -> None:
    fields = layout("test/disk/a.png", "train/round/b.png", "val/disk/c.png", "Validation/round/d.png")
    assert fields["splits"].tolist() == ["test", "train", "valid", "valid"]
    assert fields["labels"]["class"].tolist() == [0, 1, 0, 1]


def test_other_names_of_splits() -> None:
    assert layout("training/disk/a.png", "testing/disk/b.png")["splits"].tolist() == ["train", "test"]


@pytest.mark.parametrize(
    ("paths", "way"),
    [
        (
            ("disk/test/a.png", "disk/train/b.png", "round/train/c.png"),
            "put the folders of classes into",
        ),
        (("all/test/disk/a.png", "all/train/round/b.png"), "open /sky/all"),
    ],
)
def test_splits_inside_class_folders_are_told(paths: tuple[str, ...], way: str) -> None:
    fields = layout(*paths)
    assert set(fields["splits"].tolist()) == {""}
    told = "are not read as splits: {0}/test, {0}/train".format(paths[0].split("/")[0])
    assert told in fields["notice"] and f"If they are splits, {way}" in fields["notice"]


def test_a_split_may_be_unlabelled() -> None:
    fields = layout("test/a.png", "train/disk/b.png")
    assert fields["labels"]["class"].tolist() == [-1, 0]


def test_splits_alone_are_unlabelled() -> None:
    fields = layout("test/a.png", "train/b.png")
    assert fields["labels"] == {}
    assert fields["splits"].tolist() == ["test", "train"]


def test_images_beside_class_folders_are_refused() -> None:
    with pytest.raises(LabelMismatchError, match=r"1 images lie beside class folders: a\.png \[/sky\]"):
        layout("a.png", "disk/b.png")


def test_images_beside_class_folders_of_a_split_are_refused() -> None:
    with pytest.raises(LabelMismatchError, match=r"a\.png \[/sky/train\]"):
        layout("test/disk/c.png", "train/a.png", "train/disk/b.png")


def test_splits_beside_other_folders_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"like splits \(train\) lie beside others \(all\)"):
        layout("all/disk/a.png", "train/disk/b.png")


def test_images_beside_splits_belong_to_none() -> None:
    fields = layout("a.png", "train/b.png")
    assert fields["splits"].tolist() == ["", "train"]


def test_a_class_folder_called_like_a_missing_label() -> None:
    paths = ["NA/a.png", "SA/b.png"]
    layout = read_layout(paths, Path("sky"))
    assert (layout["classes"], layout["labels"]["class"].tolist()) == ({"class": ("SA",)}, [-1, 0])
    assert layout["notice"].startswith("class: 1 of 2 samples have no label (1 NA).")
    assert read_layout(paths, Path("sky"), keep="NA")["classes"] == {"class": ("NA", "SA")}
