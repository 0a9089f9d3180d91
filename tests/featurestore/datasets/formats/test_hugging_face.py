from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurestore.datasets.formats.hugging_face import HuggingFace
from featurestore.errors import (
    DatasetError,
    EmptyDatasetError,
    LabelMismatchError,
    UnknownNameError,
    UnreadableImageError,
)
from featurestore.testing import DatasetConformance

datasets = pytest.importorskip("datasets")
Encode = Callable[..., bytes]
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_progress_bars() -> None:
    datasets.disable_progress_bars()


@pytest.fixture
def make(encode: Encode, expected_pixels: Callable[..., np.ndarray]) -> Make:
    """A dataset of numbered images with these columns."""

    def build(n: int, names: list[str] | None = None, **columns: list[Any]) -> Any:
        features = {"image": datasets.Image()}
        for name, values in columns.items():
            kind = "int64" if isinstance(values[0], int) else "string"
            features[name] = datasets.ClassLabel(names=names) if names and name == "label" else datasets.Value(kind)
        images = [{"bytes": encode(expected_pixels(number)), "path": None} for number in range(n)]
        return datasets.Dataset.from_dict({"image": images, **columns}, features=datasets.Features(features))

    return build


def save(dataset: Any, place: Path) -> str:
    dataset.save_to_disk(str(place))
    return str(place)


class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, make: Make, tmp_path: Path) -> HuggingFace:
        train = make(3, names=["disk", "round"], label=[0, 1, -1])
        return HuggingFace(
            save(datasets.DatasetDict(train=train, test=make(2, names=["disk", "round"], label=[1, 0])), tmp_path / "x")
        )


def test_keys_are_splits_and_class_labels_are_schemes(make: Make, tmp_path: Path) -> None:
    train, test = (make(n, names=["round", "disk"], label=[0, 1, None][:n], bar=["y", "n", "y"][:n]) for n in (3, 2))
    table = HuggingFace(save(datasets.DatasetDict(train=train, validation=test), tmp_path / "x")).table
    assert table.sample_ids == (
        "train/000000",
        "train/000001",
        "train/000002",
        "validation/000000",
        "validation/000001",
    )
    assert table.splits.tolist() == ["train"] * 3 + ["valid"] * 2
    assert table.classes == {"label": ("round", "disk")}
    assert table.labels["label"].tolist() == [0, 1, -1, 0, 1]


def test_one_dataset_with_text_labels(make: Make, tmp_path: Path, expected_pixels: Callable[..., np.ndarray]) -> None:
    dataset = HuggingFace(
        save(make(3, label=["b", "a", None], id=["x", "y", "z"], group=["g", None, "g"]), tmp_path / "x")
    )
    assert dataset.table.sample_ids == ("x", "y", "z")
    assert dataset.table.splits.tolist() == ["", "", ""]
    assert dataset.table.labels["label"].tolist() == [1, 0, -1]
    assert dataset.table.groups is not None
    assert dataset.table.groups.tolist() == ["g", "", "g"]
    for row in range(3):
        np.testing.assert_array_equal(dataset.read(row).image, expected_pixels(row))


def test_label_columns_may_be_chosen(make: Make, tmp_path: Path) -> None:
    place = save(make(2, label=["b", "a"], bar=[7, 3]), tmp_path / "x")
    assert HuggingFace(place, labels=["bar", "label"]).table.classes == {"bar": ("3", "7"), "label": ("a", "b")}
    with pytest.raises(UnknownNameError, match=r"unknown column 'bor'.*Did you mean.*bar"):
        HuggingFace(place, labels="bor")


def test_bytes_that_are_no_image_and_none_at_all(tmp_path: Path) -> None:
    images = [{"bytes": b"not found", "path": None}, None, {"bytes": b"", "path": None}]
    features = datasets.Features({"image": datasets.Image()})
    dataset = HuggingFace(save(datasets.Dataset.from_dict({"image": images}, features=features), tmp_path / "x"))
    for row, reason in enumerate(
        [r"not a picture of a known format \(.*\)", "the row has no image", "the file is empty"]
    ):
        with pytest.raises(UnreadableImageError, match=rf"{reason} \[.*, 00000{row}\]"):
            dataset.read(row)


def test_saving_anew_changes_the_fingerprints(make: Make, tmp_path: Path) -> None:
    before = HuggingFace(save(make(2), tmp_path / "x")).table
    after = HuggingFace(save(make(3), tmp_path / "x")).table
    assert (before.fingerprints != after.fingerprints[:2]).all()


def test_images_that_are_only_pointed_to(
    write_images: Callable[..., Path], expected_pixels: Callable[..., np.ndarray]
) -> None:
    from pyarrow import ipc

    root = write_images("a.png", "b.png")
    features = datasets.Features({"image": datasets.Image()})
    pointing = datasets.Dataset.from_dict(
        {"image": [{"bytes": None, "path": str(root / name)} for name in ("a.png", "b.png")]}, features=features
    )
    place = Path(save(pointing, root / "saved"))
    with ipc.new_stream(str(next(place.glob("*.arrow"))), pointing.data.schema) as stream:
        stream.write_table(pointing.data.table)  # save_to_disk embeds the files; older versions did not
    dataset = HuggingFace(str(place))
    np.testing.assert_array_equal(dataset.read(1).image, expected_pixels(1))
    (root / "b.png").write_bytes(b"shorter")
    assert (dataset.table.fingerprints == HuggingFace(str(place)).table.fingerprints).tolist() == [True, False]
    (root / "b.png").unlink()
    with pytest.raises(UnreadableImageError, match="cannot be read: No such file"):
        dataset.read(1)


def test_splits_that_name_classes_differently(make: Make, tmp_path: Path) -> None:
    parts = datasets.DatasetDict(train=make(1, names=["a", "b"], label=[0]), test=make(1, names=["b", "a"], label=[0]))
    with pytest.raises(LabelMismatchError, match="the splits name the classes of 'label' differently"):
        HuggingFace(save(parts, tmp_path / "x"))


@pytest.mark.parametrize("column", ["label", "id", "group"])
@pytest.mark.parametrize("order", [("train", "test"), ("test", "train")])
def test_a_column_that_one_split_lacks(make: Make, tmp_path: Path, column: str, order: tuple[str, str]) -> None:
    parts = {"train": make(1, **{column: ["a"]}), "test": make(1)}
    place = save(datasets.DatasetDict({split: parts[split] for split in order}), tmp_path / "x")
    with pytest.raises(LabelMismatchError, match=f"the column '{column}' is missing in the split test"):
        HuggingFace(place)


def test_labels_follow_their_images_when_rows_were_shuffled(
    make: Make, tmp_path: Path, expected_pixels: Callable[..., np.ndarray]
) -> None:
    dataset = HuggingFace(save(make(4, id=list("0123"), label=list("0123")).select([2, 0, 3, 1]), tmp_path / "x"))
    assert dataset.table.sample_ids == tuple("2031")
    assert dataset.table.labels["label"].tolist() == [2, 0, 3, 1]
    for row, number in enumerate([2, 0, 3, 1]):
        np.testing.assert_array_equal(dataset.read(row).image, expected_pixels(number))


def test_other_columns_may_differ(make: Make, tmp_path: Path) -> None:
    parts = datasets.DatasetDict(train=make(1, note=["a"]), test=make(1))
    assert len(HuggingFace(save(parts, tmp_path / "x"))) == 2


def test_an_unknown_label_column_offers_near_ones(make: Make, tmp_path: Path) -> None:
    place = save(make(1, shape=["a"]), tmp_path / "x")
    with pytest.raises(UnknownNameError, match=r"unknown column 'shap'.*Did you mean shape"):
        HuggingFace(place, labels="shap")


def test_empty_text_is_unlabelled(make: Make, tmp_path: Path) -> None:
    table = HuggingFace(save(make(3, label=["disk", "", " "]), tmp_path / "x")).table
    assert table.labels["label"].tolist() == [0, -1, -1]
    assert table.classes == {"label": ("disk",)}


def test_numbers_of_32_bits_are_what_people_wrote(make: Make, tmp_path: Path) -> None:
    short = make(3, label=[0.1, None, 2.0]).cast_column("label", datasets.Value("float32"))
    assert HuggingFace(save(short, tmp_path / "x")).table.classes == {"label": ("0.1", "2")}


def test_lists_are_no_labels(make: Make, tmp_path: Path) -> None:
    listed = make(2).add_column("label", [[0], [0, 1]])
    with pytest.raises(LabelMismatchError, match="the column 'label' holds no single values"):
        HuggingFace(save(listed, tmp_path / "x"))


def test_a_row_without_an_id(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="row 1 has no id"):
        HuggingFace(save(make(2, id=["a", None]), tmp_path / "x"))


def test_an_unknown_split(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"unknown splits \['extra'\]"):
        HuggingFace(save(datasets.DatasetDict(extra=make(1)), tmp_path / "x"))


def test_no_image_column(tmp_path: Path) -> None:
    place = save(datasets.Dataset.from_dict({"pixels": [[1, 2]]}), tmp_path / "x")
    with pytest.raises(DatasetError, match=r"0 columns of type Image among pixels.*Cast the column"):
        HuggingFace(place)


def test_several_image_columns(encode: Encode, tmp_path: Path) -> None:
    images = [{"bytes": encode(np.full((1, 1), value, dtype=np.uint8)), "path": None} for value in (3, 4)]
    features = datasets.Features({"g": datasets.Image(), "r": datasets.Image()})
    place = save(datasets.Dataset.from_dict({"g": images[:1], "r": images[1:]}, features=features), tmp_path / "x")
    with pytest.raises(DatasetError, match=r"2 columns of type Image among g, r.*Name the one"):
        HuggingFace(place)
    assert HuggingFace(place, image="r").read(0).image.tolist() == [[4]]
    with pytest.raises(UnknownNameError, match="unknown image column 'b'"):
        HuggingFace(place, image="b")


def test_no_rows(make: Make, tmp_path: Path) -> None:
    empty = make(1).select([])
    for number, dataset in enumerate([empty, datasets.DatasetDict(), datasets.DatasetDict(train=make(1), test=empty)]):
        with pytest.raises(EmptyDatasetError, match="the dataset, or one of its splits, has no rows"):
            HuggingFace(save(dataset, tmp_path / str(number)))


@pytest.mark.parametrize("state", ["", "[]", "{}"])
def test_a_damaged_state(make: Make, tmp_path: Path, state: str) -> None:
    place = save(make(1), tmp_path / "x")
    (tmp_path / "x" / "state.json").write_text(state)
    with pytest.raises(DatasetError, match="not a dataset that save_to_disk wrote"):
        HuggingFace(place)


def test_what_is_no_saved_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a dataset that save_to_disk wrote"):
        HuggingFace(str(tmp_path))


def test_missing_labels_of_text_numbers_and_classes(make: Make, tmp_path: Path) -> None:
    named = datasets.ClassLabel(names=["star", "NA"])
    text, numbers = (
        save(make(3, label=["b", "None", "nan"]), tmp_path / "a"),
        save(make(3, label=[0, 1, -1]), tmp_path / "b"),
    )
    classes = save(make(3, label=[0, 1, -1]).cast_column("label", named), tmp_path / "c")
    tables = [HuggingFace(place).table for place in (text, numbers, classes)]
    assert [table.classes["label"] for table in tables] == [("b",), ("0", "1"), ("star",)]
    assert [table.labels["label"].tolist() for table in tables] == [[0, -1, -1], [0, 1, -1], [0, -1, -1]]
    assert all("samples have no label" in table.notice for table in tables)
    assert HuggingFace(classes, keep="NA").table.classes["label"] == ("star", "NA")


def test_the_notice_tells_which_columns_are_used(make: Make, tmp_path: Path) -> None:
    place = save(make(2, label=["a", "b"], group=["g", "h"], fr=["1", "2"]), tmp_path / "x")
    expected = "Columns of the dataset: images from image; labels from label; groups from group. Not used: fr."
    assert HuggingFace(place).table.notice == expected
    assert HuggingFace(place, labels="fr").table.notice.endswith("labels from fr; groups from group. Not used: label.")
