from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.datasets.budget import VARIABLE
from featurestore.datasets.public.galaxy_mnist import CLASSES, GalaxyMNIST
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError, SkyprobeError, UnreadableImageError
from featurestore.testing import DatasetConformance

Write = Callable[..., np.ndarray]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write one file as GalaxyMNIST has them, and return its images."""

    def apply(name: str, n: int = 5, side: int = 64, *, labels: Any = None, **options: Any) -> np.ndarray:
        images = np.random.default_rng(n).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("images", data=images, **options)
            file["labels"] = np.arange(n, dtype=np.uint8) % 4 if labels is None else labels
        return images

    return apply


@pytest.mark.parametrize("side", [64, 224])
class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, write: Write, tmp_path: Path, side: int) -> GalaxyMNIST:
        write("train_dataset.hdf5", 5, side, chunks=(2, side, side, 3), compression="gzip")
        write("test_dataset.hdf5", 3, side)
        return GalaxyMNIST(str(tmp_path))


def test_both_files_are_one_dataset(write: Write, tmp_path: Path) -> None:
    train, test = write("train_dataset.hdf5", 5), write("test_dataset.hdf5", 3)
    dataset = GalaxyMNIST(str(tmp_path))
    table = dataset.table
    assert len(dataset) == 8
    assert table.splits.tolist() == ["train"] * 5 + ["test"] * 3
    assert table.sample_ids[0] == "train_dataset/000000"
    assert table.sample_ids[7] == "test_dataset/000002"
    assert table.labels["morphology"].tolist() == [0, 1, 2, 3, 0, 0, 1, 2]
    assert table.classes == {"morphology": CLASSES}
    assert dataset.decoder == "array"
    for row, expected in enumerate([*train, *test]):
        np.testing.assert_array_equal(dataset.read(row).image, expected)


@pytest.mark.parametrize(("name", "split"), [("train_dataset.hdf5", "train"), ("test_dataset.hdf5", "test")])
def test_one_file_is_enough(write: Write, tmp_path: Path, name: str, split: str) -> None:
    write(name)
    for place in (tmp_path, tmp_path / name):
        assert set(GalaxyMNIST(str(place)).table.splits) == {split}


def test_a_file_of_another_name_has_no_split(write: Write, tmp_path: Path) -> None:
    write("galaxies.h5")
    assert set(GalaxyMNIST(str(tmp_path / "galaxies.h5")).table.splits) == {""}


def test_a_label_too_high(write: Write, tmp_path: Path) -> None:
    write("train_dataset.hdf5", labels=np.array([0, 1, 2, 3, 4]))
    with pytest.raises(LabelMismatchError, match="outside its 4 classes"):
        GalaxyMNIST(str(tmp_path))


def test_a_label_beyond_64_bits_does_not_wrap(write: Write, tmp_path: Path) -> None:
    write("train_dataset.hdf5", 2, labels=np.array([0, 2**64 - 1], dtype=np.uint64))
    with pytest.raises(DatasetError, match="the file is not an HDF5 file of GalaxyMNIST"):
        GalaxyMNIST(str(tmp_path))


def test_more_labels_than_images(write: Write, tmp_path: Path) -> None:
    write("train_dataset.hdf5", labels=np.zeros(6, dtype=np.uint8))
    with pytest.raises(LabelMismatchError, match=r"6 labels for 5 images .*train_dataset\.hdf5"):
        GalaxyMNIST(str(tmp_path))


def test_counts_are_checked_file_by_file(write: Write, tmp_path: Path) -> None:
    write("train_dataset.hdf5", 5, labels=np.zeros(4, dtype=np.uint8))
    write("test_dataset.hdf5", 3, labels=np.zeros(4, dtype=np.uint8))
    with pytest.raises(LabelMismatchError, match=r"4 labels for 5 images"):
        GalaxyMNIST(str(tmp_path))


def test_minus_one_is_unlabelled(write: Write, tmp_path: Path) -> None:
    write("train_dataset.hdf5", 2, labels=np.array([3, -1]))
    assert GalaxyMNIST(str(tmp_path)).table.labels["morphology"].tolist() == [3, -1]


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match=r"no train_dataset\.hdf5 or test_dataset\.hdf5"):
        GalaxyMNIST(str(tmp_path))


def test_no_images(write: Write, tmp_path: Path) -> None:
    write("train_dataset.hdf5", 0)
    with pytest.raises(EmptyDatasetError, match="the files hold no images"):
        GalaxyMNIST(str(tmp_path))


def test_what_is_no_hdf5(tmp_path: Path) -> None:
    (tmp_path / "train_dataset.hdf5").write_text("not found")
    with pytest.raises(DatasetError, match="not an HDF5 file of GalaxyMNIST"):
        GalaxyMNIST(str(tmp_path))


@pytest.mark.parametrize("key", ["images", "labels"])
def test_a_missing_key(write: Write, tmp_path: Path, key: str) -> None:
    write("train_dataset.hdf5")
    with h5py.File(tmp_path / "train_dataset.hdf5", "a") as file:
        del file[key]
    with pytest.raises(DatasetError, match=f"not an HDF5 file of GalaxyMNIST.*{key}"):
        GalaxyMNIST(str(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("images", np.zeros((2, 64, 64, 3)), r"images are float64 \(2, 64, 64, 3\)"),
        ("images", np.zeros((2, 64, 64), np.uint8), r"images are uint8 \(2, 64, 64\)"),
        ("images", np.zeros((2, 3, 64, 64), np.uint8), r"images are uint8 \(2, 3, 64, 64\)"),
        ("labels", np.array([1.0, 1.7]), r"labels are float64 \(2,\)"),
        ("labels", np.array([1.0, np.nan]), r"labels are float64 \(2,\)"),
        ("labels", np.zeros((2, 1), np.uint8), r"labels are uint8 \(2, 1\)"),
    ],
)
def test_other_shapes_and_types(write: Write, tmp_path: Path, key: str, value: np.ndarray, reason: str) -> None:
    write("train_dataset.hdf5", 2)
    with h5py.File(tmp_path / "train_dataset.hdf5", "a") as file:
        del file[key]
        file[key] = value
    with pytest.raises(DatasetError, match=reason):
        GalaxyMNIST(str(tmp_path))


@pytest.mark.parametrize("key", ["images", "labels"])
def test_a_group_in_place_of_an_array(write: Write, tmp_path: Path, key: str) -> None:
    write("train_dataset.hdf5", 2)
    with h5py.File(tmp_path / "train_dataset.hdf5", "a") as file:
        del file[key]
        file.create_group(key)
    with pytest.raises(DatasetError, match=f"not an HDF5 file of GalaxyMNIST: {key} is a group"):
        GalaxyMNIST(str(tmp_path))


def test_a_damaged_chunk_is_one_unreadable_image(write: Write, tmp_path: Path) -> None:
    images = write("train_dataset.hdf5", 3, chunks=(1, 64, 64, 3), fletcher32=True)
    path = tmp_path / "train_dataset.hdf5"
    raw = bytearray(path.read_bytes())
    raw[raw.index(images[1].tobytes())] ^= 1
    path.write_bytes(raw)
    dataset = GalaxyMNIST(str(tmp_path))
    with pytest.raises(UnreadableImageError, match=r"the HDF5 file is damaged: .*row 1\]"):
        dataset.read(1)
    np.testing.assert_array_equal(dataset.read(2).image, images[2])


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "train_dataset.hdf5"
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = h5py.SoftLink("/labels"), h5py.SoftLink("/images")
    with pytest.raises(DatasetError, match="the file is not an HDF5 file of GalaxyMNIST"):
        GalaxyMNIST(str(path))


# Each example writes over the file of the one before.
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), min_size=1, max_size=4))
def test_damaged_files_are_the_projects_own_errors(tmp_path: Path, changes: list[tuple[float, bytes]]) -> None:
    path = tmp_path / "train_dataset.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=np.zeros((2, 4, 4, 3), np.uint8), chunks=(1, 4, 4, 3), compression="gzip")
        file["labels"] = np.zeros(2, np.int64)
    data = path.read_bytes()
    for place, change in changes:
        start = int(place * len(data))
        data = data[:start] + change + data[start + len(change) :]
    path.write_bytes(data)
    with suppress(SkyprobeError):
        GalaxyMNIST(str(path)).read(0)


def test_no_other_file_of_the_machine_is_read(write: Write, tmp_path: Path) -> None:
    """HDF5 can take the values of an array from any file, here from one that is nobody's image."""
    secret = tmp_path / "passwd"
    secret.write_bytes(bytes(range(256)) * 400)
    write("whole.hdf5", 2)
    shape, path = (2, 64, 64, 3), tmp_path / "x.hdf5"
    layout = h5py.VirtualLayout(shape, np.uint8)
    layout[:] = h5py.VirtualSource(str(tmp_path / "whole.hdf5"), "images", shape)
    ways: dict[str, Callable[[Any], Any]] = {
        "the values of images lie in other files": lambda file: file.create_dataset(
            "images", shape, np.uint8, external=[(str(secret), 0, 2 * 64 * 64 * 3)]
        ),
        "images is a link to another place": lambda file: file.__setitem__(
            "images", h5py.ExternalLink(str(tmp_path / "whole.hdf5"), "images")
        ),
        "the values of images lie in other": lambda file: file.create_virtual_dataset("images", layout),
        "images is a link": lambda file: file.__setitem__("images", h5py.SoftLink("/images")),
    }
    for reason, make in ways.items():
        with h5py.File(path, "w") as file:
            make(file)
            file["labels"] = np.zeros(2, np.uint8)
        with pytest.raises(DatasetError, match=reason):
            GalaxyMNIST(str(path))


def test_an_image_or_chunk_beyond_the_budget_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        file.create_dataset("images", (1, 600, 600, 3), np.uint8)
        file["labels"] = np.zeros(1, np.uint8)
    with pytest.raises(UnreadableImageError, match="too large: 600 x 600 x 3 values"):
        GalaxyMNIST(str(tmp_path / "wide.h5")).read(0)
    with h5py.File(tmp_path / "chunk.h5", "w") as file:
        file.create_dataset("images", (900, 64, 64, 3), np.uint8, chunks=(900, 64, 64, 3), compression="gzip")
        file["labels"] = np.zeros(900, np.uint8)
    with pytest.raises(UnreadableImageError, match="exceed the limit of 2 MiB"):
        GalaxyMNIST(str(tmp_path / "chunk.h5"))
