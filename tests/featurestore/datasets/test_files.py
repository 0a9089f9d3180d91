from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featurestore.datasets.files import (
    FileDataset,
    check_match,
    find_images,
    fingerprint_of,
    fingerprints_of,
    image_kinds,
    is_fits,
    is_picture,
    some_of,
)
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError, UnreadableImageError
from featurestore.samples import SampleTable

WriteImages = Callable[..., Path]


def dataset_of(root: Path) -> FileDataset:
    found = find_images(root)
    paths = tuple(found)
    splits = np.array([""] * len(paths))
    return FileDataset(SampleTable("sky", paths, {}, {}, splits, fingerprints_of(paths, found)), root, paths)


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.b.tiff", "a.jfif", "a.jpe"])
def test_pictures_are_known_by_name(name: str) -> None:
    assert is_picture(name)
    assert not is_fits(name)


@pytest.mark.parametrize(
    "name", ["a.fits", "A.FIT", "a.fts", "a.fits.fz", "a.fits.gz", "a.fit.bz2", "a.fits.xz", "a.fits.Z"]
)
def test_fits_files_are_known_by_name(name: str) -> None:
    assert is_fits(name)
    assert not is_picture(name)


def test_archives_and_text_are_neither() -> None:
    assert not any(known(name) for known in (is_fits, is_picture) for name in ("a.csv.gz", "fits", "a.txt"))


def test_images_are_found_sorted_by_path(write_images: WriteImages) -> None:
    assert list(find_images(write_images("b/z.png", "b.png", "a/é.png"))) == ["a/é.png", "b.png", "b/z.png"]


def test_hidden_files_and_folders_are_left_out(write_images: WriteImages) -> None:
    root = write_images("a.png", ".b.png", ".cache/c.png", "._d.png")
    assert list(find_images(root)) == ["a.png"]


def test_other_files_are_left_out(write_images: WriteImages) -> None:
    root = write_images("a.png")
    (root / "readme.txt").write_text("hello")
    assert list(find_images(root)) == ["a.png"]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match=r"no images in the folder, but nothing .*Accepted: \.png"):
        find_images(tmp_path)


def test_a_folder_without_images_says_what_lies_there(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.doc", "LICENSE"):
        (tmp_path / name).write_text("hello")
    with pytest.raises(EmptyDatasetError, match=r"2 x \.txt, 1 x .*1 x "):
        find_images(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be listed: No such file"):
        find_images(tmp_path / "none")


def test_links_that_go_round_are_followed_once(write_images: WriteImages) -> None:
    root = write_images("set/a/x.png", "set/b/x.png") / "set"
    for name, target in (("self", "."), ("up", ".."), ("two-up", "../..")):
        (root / "a" / name).symlink_to(target)
    assert list(find_images(root)) == ["a/x.png", "b/x.png"]


def test_a_pipe_or_device_is_unreadable_and_holds_nothing_up(tmp_path: Path) -> None:
    for name in ("a.png", "b.fits"):
        os.mkfifo(tmp_path / name)
    for name in ("c.png", "d.fits"):
        (tmp_path / name).symlink_to("/dev/zero")
    dataset = dataset_of(tmp_path)
    for row in range(4):
        with pytest.raises(UnreadableImageError, match="the file cannot be read: it is not a regular file"):
            dataset.read(row)


def test_the_notice_counts_the_most_frequent_endings_that_are_left_out(tmp_path: Path) -> None:
    for number, ending in enumerate(("jxl", "heic", "FITS.ZIP", "dat.gz", "npy", "cr2", "dng")):
        for copy in range(9 - number):
            (tmp_path / f"{copy}.{ending}").touch()
    (tmp_path / "a.png").touch()
    assert find_images(tmp_path).notice == (
        "Files left out, since they are not read as images here: 9 x .jxl, 8 x .heic, 7 x .fits.zip, 6 x .dat.gz, "
        "5 x .npy and 7 others."
    )


def test_what_lies_beside_images_is_not_missed(tmp_path: Path) -> None:
    for name in ("a.png", "labels.CSV", "README", "notes.md", "b.xml"):
        (tmp_path / name).touch()
    (tmp_path / "catalogue.fits").touch()
    found = find_images(tmp_path, catalogue=tmp_path / "catalogue.fits")
    assert (list(found), found.notice) == (["a.png"], "")


def test_a_catalogue_is_one_file_not_all_of_its_name(tmp_path: Path) -> None:
    for name in ("x.fits", "deep/x.fits"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_images(tmp_path, catalogue=tmp_path / "x.fits")) == ["deep/x.fits"]


def test_a_linked_folder_is_followed(write_images: WriteImages, tmp_path_factory: pytest.TempPathFactory) -> None:
    here = tmp_path_factory.mktemp("here")
    (here / "linked").symlink_to(write_images("a.png"))
    assert list(find_images(here)) == ["linked/a.png"]


def test_a_name_that_is_no_utf8_is_an_error(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).touch()
    with pytest.raises(DatasetError, match="not UTF-8"):
        find_images(tmp_path)


def test_a_stamp_changes_with_size_time_and_salt(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"1")
    os.utime(file, ns=(1, 1))
    first = fingerprint_of(file.stat())
    assert first == fingerprint_of(file.stat())
    os.utime(file, ns=(1, 2))
    second = fingerprint_of(file.stat())
    file.write_bytes(b"12")
    os.utime(file, ns=(1, 2))
    assert len({first, second, fingerprint_of(file.stat()), fingerprint_of(file.stat(), salt="SCI")}) == 4
    assert 0 <= first < 2**64


def test_kinds(write_images: WriteImages) -> None:
    assert image_kinds(write_images("a/b.png")) == {"picture"}
    assert image_kinds(write_images("c.fits")) == {"picture", "fits"}


def test_names_in_messages_are_cut_short() -> None:
    assert some_of(["a", "b"]) == "a, b"
    assert some_of(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_check_match_accepts_a_match(tmp_path: Path) -> None:
    check_match([], [], tmp_path)


def test_check_match_lists_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(LabelMismatchError, match="2 rows name an image that is not there: a, b"):
        check_match(["a", "b"], ["c"], tmp_path)
    with pytest.raises(LabelMismatchError, match="1 images have no row: c"):
        check_match([], ["c"], tmp_path)


def test_files_are_read_by_row(write_images: WriteImages, expected_pixels: Callable[..., np.ndarray]) -> None:
    dataset = dataset_of(write_images("b.png", "a.fits"))
    assert dataset.decoder == "astropy+pillow"
    np.testing.assert_array_equal(dataset.read(0).image, expected_pixels(1)[::-1])
    np.testing.assert_array_equal(dataset.read(1).image, expected_pixels(0))


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    dataset = dataset_of(tmp_path)
    assert dataset.table.sample_ids == ("a.png",)
    with pytest.raises(UnreadableImageError, match=r"not a picture of a known format .*a\.png"):
        dataset.read(0)


@pytest.mark.parametrize("name", ["a.png", "a.fits"])
def test_a_file_that_went_away_is_unreadable(write_images: WriteImages, name: str) -> None:
    root = write_images(name)
    dataset = dataset_of(root)
    (root / name).unlink()
    with pytest.raises(UnreadableImageError, match="cannot be read: No such file"):
        dataset.read(0)


def test_a_link_to_nowhere_keeps_its_row(write_images: WriteImages) -> None:
    root = write_images("a.png")
    (root / "b.png").symlink_to(root / "gone")
    dataset = dataset_of(root)
    assert dataset.table.sample_ids == ("a.png", "b.png")
    with pytest.raises(UnreadableImageError, match="No such file"):
        dataset.read(1)


def test_a_folder_called_like_a_picture_is_a_folder(write_images: WriteImages) -> None:
    assert list(find_images(write_images("a.png/b.png"))) == ["a.png/b.png"]


def test_a_zero_byte_file_keeps_its_row(tmp_path: Path) -> None:
    for name in ("a.png", "b.fits"):
        (tmp_path / name).touch()
    for row in (0, 1):
        with pytest.raises(UnreadableImageError, match="the file is empty"):
            dataset_of(tmp_path).read(row)
