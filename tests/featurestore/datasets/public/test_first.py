from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from featurestore.datasets.public import first
from featurestore.datasets.public.first import CLASSES, First
from featurestore.errors import (
    DatasetError,
    EmptyDatasetError,
    LabelMismatchError,
    MissingDependencyError,
    UnreadableImageError,
)
from featurestore.sky_groups import group_by_sky
from featurestore.testing import DatasetConformance
from probes.sweep.splits import split_rows

installed = pytest.mark.skipif(find_spec("firstgalaxydata") is None, reason="firstgalaxydata is not installed")
Archive = Callable[..., Path]


@pytest.fixture
def archive(tmp_path: Path, encode: Callable[..., bytes], expected_pixels: Callable[..., np.ndarray]) -> Archive:
    """A small archive with numbered images of these members."""

    def write(*members: str) -> Path:
        with ZipFile(tmp_path / "galaxy_data.zip", "w", ZIP_DEFLATED) as file:
            for number, member in enumerate(members):
                file.writestr(f"galaxy_data/{member}", encode(expected_pixels(number)))
        return tmp_path / "galaxy_data.zip"

    return write


class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, archive: Archive) -> First:
        return First(str(archive("train/FRI/a.png", "valid/Bent/b.png", "test/Compact/c.png")))


def test_members_become_rows(archive: Archive, expected_pixels: Callable[..., np.ndarray]) -> None:
    dataset = First(
        str(archive("valid/Bent/b.png", "train/FRII/a.png", "all/FRII/a.png", "readme.txt", "test/FRI/x.doc"))
    )
    table = dataset.table
    assert table.sample_ids == ("train/FRII/a.png", "valid/Bent/b.png")
    assert table.splits.tolist() == ["train", "valid"]
    assert table.labels["morphology"].tolist() == [1, 3]
    assert dataset.decoder == "pillow"
    np.testing.assert_array_equal(dataset.read(0).image, expected_pixels(1))


def test_a_changed_image_changes_its_stamp_alone(archive: Archive, encode: Callable[..., bytes]) -> None:
    members = ("train/FRI/a.png", "train/FRI/b.png")
    path = archive(*members)
    before = First(str(path)).table
    archive(members[0], "test/FRI/c.png")
    with ZipFile(path, "a") as file:
        file.writestr(f"galaxy_data/{members[1]}", encode(np.zeros((6, 8), dtype=np.uint8)))
    after = First(str(path)).table
    assert after.sample_ids[1:] == before.sample_ids == members
    assert (before.fingerprints == after.fingerprints[1:]).tolist() == [True, False]


def test_a_damaged_member_is_one_unreadable_image(archive: Archive) -> None:
    path = archive("train/FRI/a.png", "train/FRI/b.png")
    with ZipFile(path) as file:
        place = file.infolist()[0].header_offset + 30 + len("galaxy_data/train/FRI/a.png")
    raw = bytearray(path.read_bytes())
    raw[place + 10 : place + 20] = bytes(10)
    path.write_bytes(raw)
    dataset = First(str(path))
    with pytest.raises(UnreadableImageError, match=r"the archive is damaged: .*\[train/FRI/a\.png\]"):
        dataset.read(0)
    assert dataset.read(1).image.shape == (6, 8)


def test_an_unknown_class_is_refused(archive: Archive) -> None:
    with pytest.raises(DatasetError, match=r"unknown class 'Ring'"):
        First(str(archive("train/Ring/a.png")))


def test_an_archive_without_images(archive: Archive) -> None:
    with pytest.raises(EmptyDatasetError, match="no images in the archive"):
        First(str(archive()))


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_text("not found")
    with pytest.raises(DatasetError, match="the archive cannot be read: File is not a zip file"):
        First(str(tmp_path / "x.zip"))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "find_spec", lambda name: None)
    with pytest.raises(
        MissingDependencyError, match=r"firstgalaxydata is not installed .*pip install 'skyprobe\[demo\]'"
    ):
        First()


@installed
def test_the_installed_package() -> None:
    """Counts as its own description states them."""
    dataset = First()
    table = dataset.table
    assert (table.name, table.source) == ("first", "first")
    assert Counter(table.splits.tolist()) == {"train": 1758, "valid": 200, "test": 200}
    assert table.classes["morphology"] == CLASSES == ("FRI", "FRII", "Compact", "Bent")
    assert np.bincount(table.labels["morphology"]).tolist() == [495, 924, 391, 348]
    assert all(
        f"/{CLASSES[label]}/" in name for name, label in zip(table.sample_ids, table.labels["morphology"], strict=True)
    )
    assert "1994" in table.notice
    assert "non-commercial" in table.notice
    for row in (0, 1000, 2157):
        image = dataset.read(row).image
        assert (image.shape, image.dtype) == ((300, 300), np.uint8)
        assert image.max() > 0


@installed
def test_the_package_is_not_imported() -> None:
    load = "from featurestore.datasets import open_dataset; open_dataset('first').read(0)"
    heavy = {"torch", "firstgalaxydata", "astropy", "pandas"}
    code = f"import sys; {load}; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@installed
@pytest.mark.parametrize(("radius", "n_groups", "n_parted"), [(10, 2158, 0), (60, 2156, 1), (300, 2120, 13)])
def test_the_published_split_parts_neighbours_on_the_sky(radius: int, n_groups: int, n_parted: int) -> None:
    table = group_by_sky(First().table, radius)
    assert len(set(table.groups.tolist())) == n_groups
    expected = (
        pytest.raises(LabelMismatchError, match=f"^{n_parted} groups have samples in") if n_parted else nullcontext()
    )
    with expected:
        assert len(split_rows(table).test) == 200
