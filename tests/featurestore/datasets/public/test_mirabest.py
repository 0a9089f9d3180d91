from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurestore.datasets.public.mirabest import CODES, MiraBest
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError
from featurestore.testing import DatasetConformance

Write = Callable[..., np.ndarray]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write one batch as the public set has them (a list of arrays, names with a folder), and return its images."""

    def apply(name: str, classes: list[int], **changes: Any) -> np.ndarray:
        images = np.random.default_rng(len(classes)).integers(0, 256, (len(classes), 150, 150), dtype=np.uint8)
        names = [np.str_(f"Cropped/{CODES[label]}_{name}_{row}.png") for row, label in enumerate(classes)]
        content = {"batch_label": name, "labels": classes, "data": list(images), "filenames": names} | changes
        kept = {key: value for key, value in content.items() if value is not None}
        (tmp_path / name).write_bytes(pickle.dumps(kept, protocol=3))
        return images

    return apply


@pytest.fixture
def write_meta(tmp_path: Path) -> Callable[[Any], None]:
    return lambda content: (tmp_path / "batches.meta").write_bytes(pickle.dumps(content)) and None


class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, write: Write, write_meta: Callable[[Any], None], tmp_path: Path) -> MiraBest:
        write("data_batch_1", [0, 3, 5])
        write("test_batch", [7, 8])
        write_meta({"num_cases_per_batch": 3, "label_names": list(CODES), "num_vis": 22500})
        return MiraBest(str(tmp_path))


def test_batches_are_one_dataset(write: Write, tmp_path: Path) -> None:
    test = write("test_batch", [1])
    tenth, second = write("data_batch_10", [2, 3]), write("data_batch_2", [0, 4, 5])
    dataset = MiraBest(str(tmp_path))
    assert dataset.table.splits.tolist() == ["train"] * 5 + ["test"]
    assert dataset.table.sample_ids[0] == "100_data_batch_2_0.png"
    assert dataset.table.sample_ids[5] == "102_test_batch_0.png"
    for row, expected in enumerate([*second, *tenth, *test]):
        np.testing.assert_array_equal(dataset.read(row).image, expected)


def test_schemes_of_the_full_set(write: Write, tmp_path: Path) -> None:
    write("data_batch_1", list(range(10)))
    table = MiraBest(str(tmp_path)).table
    assert table.schemes == ("class", "fri-frii", "confident")
    assert table.classes == {"class": CODES, "fri-frii": ("FRI", "FRII"), "confident": ("FRI", "FRII")}
    assert table.labels["class"].tolist() == list(range(10))
    assert table.labels["fri-frii"].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, -1, -1]
    assert table.labels["confident"].tolist() == [0, 0, 0, -1, -1, 1, 1, -1, -1, -1]


def test_schemes_of_the_set_with_two_classes(write: Write, write_meta: Callable[[Any], None], tmp_path: Path) -> None:
    write("data_batch_1", [0, 1, 1])
    write_meta({"label_names": ["FRI", "FRII"]})
    table = MiraBest(str(tmp_path)).table
    assert table.schemes == ("class", "fri-frii")
    assert table.labels["class"].tolist() == table.labels["fri-frii"].tolist() == [0, 1, 1]


@pytest.mark.parametrize("shape", [(2, 22500), (2, 150, 150), (2, 150, 150, 1), (2, 1, 150, 150)])
def test_shapes_of_data(write: Write, tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write("data_batch_1", [0, 1], data=data)
    np.testing.assert_array_equal(MiraBest(str(tmp_path)).read(1).image, data[1].reshape(150, 150))


def test_without_file_names(write: Write, tmp_path: Path) -> None:
    write("data_batch_1", [0, 1], filenames=None)
    assert MiraBest(str(tmp_path)).table.sample_ids == ("data_batch_1/000000", "data_batch_1/000001")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": None}, "KeyError: 'data'"),
        ({"labels": None}, "KeyError: 'labels'"),
        ({"labels": ["one", "two"]}, "invalid literal"),
        ({"data": np.zeros((2, 150, 150))}, r"data are float64 \(2, 150, 150\)"),
        ({"data": np.zeros((2, 32, 32, 3), np.uint8)}, r"data are uint8 \(2, 32, 32, 3\)"),
        ({"data": [np.zeros((150, 150), np.uint8), np.zeros((2, 2), np.uint8)]}, "inhomogeneous shape"),
        ({"data": np.uint8(3)}, "unsized object"),
    ],
)
def test_other_contents(write: Write, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    write("data_batch_1", [0, 1], **changes)
    with pytest.raises(DatasetError, match=rf"the file is not a batch of MiraBest: .*{reason}"):
        MiraBest(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"labels": [0]}, "1 labels for 2 images"), ({"filenames": ["a"]}, "1 file names for 2 images")],
)
def test_counts_that_differ(write: Write, tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    write("data_batch_1", [0, 1], **changes)
    with pytest.raises(LabelMismatchError, match=reason):
        MiraBest(str(tmp_path))


@pytest.mark.parametrize("label", [2, -2])
def test_a_label_without_a_class(write: Write, write_meta: Callable[[Any], None], tmp_path: Path, label: int) -> None:
    write("data_batch_1", [0, 1], labels=[0, label])
    write_meta({"label_names": ["FRI", "FRII"]})
    with pytest.raises(LabelMismatchError, match="outside its 2 classes"):
        MiraBest(str(tmp_path))


@pytest.mark.parametrize("content", [{}, [], {"label_names": []}, {"label_names": "FRI"}])
def test_a_meta_file_without_names(
    write: Write, write_meta: Callable[[Any], None], tmp_path: Path, content: Any
) -> None:
    write("data_batch_1", [0])
    write_meta(content)
    with pytest.raises(DatasetError, match=r"the file names no labels .*batches\.meta"):
        MiraBest(str(tmp_path))


def test_no_batches_and_no_images(write: Write, tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="no data_batch_1 or test_batch"):
        MiraBest(str(tmp_path))
    write("data_batch_1", [], data=np.zeros((0, 150, 150), np.uint8))
    with pytest.raises(EmptyDatasetError, match="the files hold no images"):
        MiraBest(str(tmp_path))


def test_code_in_a_batch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": Path("x")}))
    with pytest.raises(DatasetError, match=r"the pickle names pathlib.*data_batch_1\]"):
        MiraBest(str(tmp_path))
