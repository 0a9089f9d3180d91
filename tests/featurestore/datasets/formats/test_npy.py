from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from featurestore.datasets import open_dataset
from featurestore.datasets.budget import VARIABLE
from featurestore.datasets.formats.npy import NumpyArrays
from featurestore.errors import (
    DatasetError,
    EmptyDatasetError,
    LabelMismatchError,
    SkyprobeError,
    UnknownNameError,
    UnreadableImageError,
)
from featurestore.testing import DatasetConformance

SHAPES = st.sampled_from([(2, 3, 4), (1, 2, 2, 5)])
RNG = np.random.default_rng(0)


class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, tmp_path: Path) -> NumpyArrays:
        images = RNG.normal(size=(4, 5, 6, 3))
        images[1] = np.nan
        np.save(tmp_path / "train_images.npy", images)
        np.save(tmp_path / "train_labels.npy", np.array([0, 2, 10, -1]))
        np.save(tmp_path / "test_images.npy", RNG.integers(0, 256, (2, 5, 6), dtype=np.uint8))
        return NumpyArrays(str(tmp_path))

    def test_the_table(self, dataset: NumpyArrays) -> None:
        table = dataset.table
        assert table.splits.tolist() == ["test"] * 2 + ["train"] * 4
        assert table.sample_ids[0] == "test_images/000000"
        assert table.classes == {"class": ("0", "2", "10")}
        assert table.labels["class"].tolist() == [-1, -1, 0, 1, 2, -1]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["u1", "<u2", ">u2", "i1", "<i2", ">i2"]).flatmap(lambda dtype: arrays(dtype, SHAPES))
    | st.sampled_from(["<f4", ">f4", "<f2"]).flatmap(lambda dtype: arrays(dtype, SHAPES, elements={"allow_nan": False}))
)
def test_every_type_keeps_its_values(tmp_path: Path, images: np.ndarray) -> None:
    np.save(tmp_path / "images.npy", images)
    dataset = NumpyArrays(str(tmp_path))
    assert dataset.table.schemes == ()
    for row, expected in enumerate(images):
        image = dataset.read(row).image
        assert image.dtype.isnative
        np.testing.assert_array_equal(image, expected)


def test_float64_becomes_float32(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.array([[[1e300, 0.1]]]))
    np.testing.assert_array_equal(NumpyArrays(str(tmp_path)).read(0).image, np.float32([[np.inf, 0.1]]))


def test_labels_as_text(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((3, 2, 2), np.uint8))
    np.save(tmp_path / "labels.npy", np.array(["disk", "", "bar"]))
    table = NumpyArrays(str(tmp_path)).table
    assert table.classes["class"] == ("bar", "disk")
    assert table.labels["class"].tolist() == [1, -1, 0]


def test_an_image_of_nan_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.full((1, 2, 2), np.nan, np.float32))
    with pytest.raises(UnreadableImageError, match=r"every pixel is NaN .*images\.npy, row 0"):
        NumpyArrays(str(tmp_path)).read(0)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.zeros((2, 2)), r"images are float64 \(2, 2\)"),
        (np.zeros((2, 2, 2), np.int64), r"images are int64 \(2, 2, 2\)"),
        (np.zeros((2, 2, 2), bool), r"images are bool"),
        (np.array([[[None]]]), "the file is not an array: .*Python objects"),
    ],
)
def test_other_images(tmp_path: Path, images: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(DatasetError, match=reason):
        NumpyArrays(str(tmp_path))


@pytest.mark.parametrize("labels", [np.zeros(2, complex), np.zeros((2, 1), int)])
def test_other_labels(tmp_path: Path, labels: np.ndarray) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 2, 2), np.uint8))
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(DatasetError, match=r"labels are .*labels\.npy"):
        NumpyArrays(str(tmp_path))


def test_more_labels_than_images(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 2, 2), np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros(3, int))
    with pytest.raises(LabelMismatchError, match="3 labels for 2 images"):
        NumpyArrays(str(tmp_path))


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 9, 9), np.uint8))
    path = tmp_path / "images.npy"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match="the file is not an array"):
        NumpyArrays(str(tmp_path))


def test_no_file_and_no_images(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match=r"no images\.npy"):
        NumpyArrays(str(tmp_path))
    np.save(tmp_path / "images.npy", np.zeros((0, 2, 2), np.uint8))
    with pytest.raises(EmptyDatasetError, match="the files hold no images"):
        NumpyArrays(str(tmp_path))


def test_what_is_read_is_a_copy(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 4, 4), np.uint8))
    dataset = NumpyArrays(str(tmp_path))
    image = dataset.read(1).image
    assert image.base is None and image.flags.writeable


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array(["b", "nan", "", "a", "-1"]), ("a", "b")),
        (np.array([10, -1, -1, 9, -1]), ("9", "10")),
        (np.array([2.0, np.nan, -1.0, 1.0, np.nan]), ("1", "2")),
    ],
)
def test_missing_labels(tmp_path: Path, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    np.save(tmp_path / "images.npy", np.zeros((5, 2, 2), np.uint8))
    np.save(tmp_path / "labels.npy", labels)
    table = NumpyArrays(str(tmp_path)).table
    assert table.classes == {"class": classes}
    assert table.labels["class"].tolist() == [1, -1, -1, 0, -1]
    assert "class: 3 of 5 samples have no label" in table.notice


def test_a_label_that_looks_missing_can_be_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 2, 2), np.uint8))
    np.save(tmp_path / "labels.npy", np.array(["NA", "SA"]))
    assert NumpyArrays(str(tmp_path), keep="NA").table.classes == {"class": ("NA", "SA")}


CUBES = RNG.random((4, 5, 32, 30)).astype(np.float32)


@pytest.mark.parametrize("shape", [(4, 5, 32, 32), (4, 3, 8, 9), (4, 64, 8, 8)])
def test_bands_that_seem_to_come_first_are_asked_for(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "images.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DatasetError, match="whose bands seem to be the axis after n") as caught:
        NumpyArrays(str(tmp_path))
    for place, expected in (("first", (*shape[2:], shape[1])), ("last", shape[1:])):
        command = f"npy:{tmp_path},channels={place}"
        assert command in caught.value.hint
        dataset = open_dataset(command)
        assert dataset.read(0).image.shape == expected
        assert dataset.table.source == command


def test_bands_first_are_the_same_pixels(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", CUBES)
    image = NumpyArrays(str(tmp_path), channels="first").read(2).image
    np.testing.assert_array_equal(image, np.moveaxis(CUBES[2], 0, -1))
    assert image.flags.c_contiguous


def test_another_place_of_the_bands_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown place of the channels 'middle'"):
        NumpyArrays(str(tmp_path), channels="middle")


def test_images_without_pixels(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 0, 4), np.uint8))
    with pytest.raises(DatasetError, match=r"images are uint8 \(2, 0, 4\)"):
        NumpyArrays(str(tmp_path))


def test_an_archive_and_a_pipe_are_no_array(tmp_path: Path) -> None:
    with (tmp_path / "images.npy").open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(DatasetError, match="the file is not an array: it is an archive"):
        NumpyArrays(str(tmp_path))
    (tmp_path / "images.npy").unlink()
    os.mkfifo(tmp_path / "images.npy")
    with pytest.raises(DatasetError, match="the file is not an array: it is not a regular file"):
        NumpyArrays(str(tmp_path))


def test_one_image_beyond_the_budget_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "images.npy", np.zeros((1, 600, 600), np.float32))
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(UnreadableImageError, match="too large: 600 x 600 values of 4 bytes"):
        NumpyArrays(str(tmp_path)).read(0)


HEADERS = (
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999, 9, 9), }",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 9, 9), }",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999, 9, 9), }",
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (9, 9, 9), ",
    b"{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (9, 9, 9), }",
)


@pytest.mark.parametrize("header", HEADERS)
def test_headers_that_lie(tmp_path: Path, header: bytes) -> None:
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(729)
    (tmp_path / "images.npy").write_bytes(data)
    with pytest.raises(DatasetError, match="the file is not an array"):
        NumpyArrays(str(tmp_path))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), max_size=4))
def test_damage_never_surfaces_as_another_error(tmp_path: Path, tail: bytes, changes: list[tuple[int, int]]) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 4, 4), np.uint8))
    data = bytearray((tmp_path / "images.npy").read_bytes())
    for place, value in changes:
        data[place] = value
    (tmp_path / "images.npy").write_bytes(bytes(data[:128]) + tail)
    try:
        NumpyArrays(str(tmp_path)).read(0)
    except SkyprobeError as error:
        assert "images.npy" in error.where or error.where == str(tmp_path)
