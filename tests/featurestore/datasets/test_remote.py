from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from featurestore.datasets import open_dataset
from featurestore.datasets.cropping.crop import CropOptions, crop_images
from featurestore.datasets.cropping.parent_image import ParentImage
from featurestore.datasets.naming import split_options
from featurestore.datasets.opening import source_of
from featurestore.datasets.remote import place_at
from featurestore.errors import DatasetError, EmptyDatasetError, UnreachableError, UnreadableImageError, UsageError
from featurestore.store.query import leads_to


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype="u1")).save(file, "PNG")
    return file.getvalue()


def fits_file(seed: int) -> bytes:
    file = io.BytesIO()
    fits.PrimaryHDU(np.random.default_rng(seed).normal(size=(16, 20)).astype("f4")).writeto(file, checksum=True)
    return file.getvalue()


FOLDERS = {
    "image_folder": {f"train/{kind}/{n}.png": png(n) for kind in ("disk", "ring") for n in range(3)},
    "fits": {f"{n}.fits": fits_file(n) for n in range(3)},
    "table": {"images/a b.png": png(1), "images/c.png": png(2), "cat.csv": b"file,label\na b.png,x\nc.png,y\n"},
}


@pytest.fixture
def put(object_server, bucket: str, tmp_path: Path):
    """The same files in a bucket and on a disk; their places."""

    def put(files: dict[str, bytes]) -> tuple[str, Path]:
        for name, raw in files.items():
            object_server.put(f"/{bucket}/data/galaxies/{name.replace(' ', '%20')}", raw)
            (tmp_path / "galaxies" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "galaxies" / name).write_bytes(raw)
        return f"s3://{bucket}/data/galaxies", tmp_path / "galaxies"

    return put


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_bucket_reads_as_a_disk_does(put, kind: str) -> None:
    url, folder = put(FOLDERS[kind] | {".hidden/x.png": b""})
    remote, local = open_dataset(url), open_dataset(str(folder))
    assert remote.table.source == f"{kind}:{url}"
    assert remote.table.name.startswith("galaxies-")
    assert remote.table.sample_ids == local.table.sample_ids
    assert remote.table.classes == local.table.classes
    for scheme in local.table.schemes:
        np.testing.assert_array_equal(remote.table.labels[scheme], local.table.labels[scheme])
    np.testing.assert_array_equal(remote.table.splits, local.table.splits)
    assert len(remote) == len(local)
    for row in range(len(local)):
        np.testing.assert_array_equal(remote.read(row).image, local.read(row).image)
        assert remote.read(row).digest == local.read(row).digest


def test_an_image_is_one_request(put, object_server) -> None:
    url, _ = put(FOLDERS["fits"])
    dataset = open_dataset(f"fits:{url}")
    object_server.proxy.requests.clear()
    dataset.read(1)
    assert [(one.method, one.path.rpartition("/")[2]) for one in object_server.proxy.requests] == [("GET", "1.fits")]


def test_a_changed_object_is_another_image_and_a_copied_one_is_not(put) -> None:
    files = FOLDERS["image_folder"]
    url, _ = put(files)
    before = open_dataset(url).table.fingerprints
    put({name: png(9) if name.endswith("ring/0.png") else raw for name, raw in files.items()})
    np.testing.assert_array_equal(
        open_dataset(url).table.fingerprints != before, [name.endswith("ring/0.png") for name in sorted(files)]
    )


def test_the_source_opens_the_dataset_again(put) -> None:
    url, _ = put(FOLDERS["table"])
    dataset = open_dataset(f"{url},catalogue={url}/cat.csv,labels=label")
    assert split_options(dataset.table.source)[0] == source_of(url) == f"table:{url}"
    assert open_dataset(dataset.table.source).table.sample_ids == dataset.table.sample_ids
    assert leads_to(url, f"table:{url}")
    assert leads_to(f"table:{url}", f"table:{url}")
    assert not leads_to(f"{url}2", f"table:{url}")


def test_an_object_that_is_gone_is_an_unreadable_image(put, object_server) -> None:
    dataset = open_dataset(put(FOLDERS["image_folder"])[0])
    object_server.proxy.choose = lambda method, path: 404 if path.endswith("disk/1.png") else None
    with pytest.raises(UnreadableImageError, match=r"cannot be read: no such object \[s3://.*disk/1.png\]"):
        dataset.read(1)


def test_a_server_that_refuses_stops_an_extraction_and_marks_no_row(put, object_server) -> None:
    dataset = open_dataset(put(FOLDERS["image_folder"])[0])
    object_server.proxy.choose = lambda method, path: 403 if path.endswith("disk/1.png") else None
    with pytest.raises(UnreachableError, match=r"access to s3://.*disk/1.png is denied"):
        dataset.read(1)


def test_what_is_not_there_or_no_image(put, bucket: str) -> None:
    url, _ = put({"readme.md": b"x"})
    for text in (f"{url}/nowhere", f"fits:{url}/nowhere"):
        with pytest.raises(DatasetError, match=r"no such file or folder \[s3://.*nowhere\]"):
            open_dataset(text)
    with pytest.raises(DatasetError, match="no dataset is recognised here"):
        open_dataset(url)
    with pytest.raises(EmptyDatasetError, match=r"no images in the folder, but 1 x .md"):
        open_dataset(f"image_folder:{url}")
    with pytest.raises(UsageError, match=r"npy is read from a disk only.*Copy the data"):
        open_dataset(f"npy:{url}")


def test_of_a_cube_in_a_bucket_only_the_plane_is_read(put, object_server, tmp_path: Path) -> None:
    file, cube = io.BytesIO(), np.random.default_rng(0).normal(size=(8, 500, 600)).astype("f4")
    fits.PrimaryHDU(cube).writeto(file)
    url, _ = put({"cube.fits": file.getvalue()})
    image = ParentImage.read(place_at(f"{url}/cube.fits"), plane=5)
    np.testing.assert_array_equal(image.values, cube[5])
    object_server.proxy.requests.clear()
    ParentImage.read(place_at(f"{url}/cube.fits"), plane=5)
    assert sum(one.received for one in object_server.proxy.requests) < 2 * cube[5].nbytes
    assert len(object_server.proxy.requests) < 10


def test_crops_of_a_bucket_are_those_of_a_disk(put, tmp_path: Path) -> None:
    file = io.BytesIO()
    fits.PrimaryHDU(np.random.default_rng(0).normal(size=(64, 64)).astype("f4")).writeto(file)
    url, folder = put({"a.fits": file.getvalue(), "sources.csv": b"x,y,major,minor,pa\n20,20,6,4,0\n50,40,6,4,30\n"})
    options = CropOptions(size=32)
    for root, output in ((url, tmp_path / "remote"), (str(folder), tmp_path / "local")):
        report = crop_images([place_at(f"{root}/a.fits")], place_at(f"{root}/sources.csv"), output, options)
        assert report.crops == 2
    for crop in (tmp_path / "local" / "images").rglob("*.fits"):
        remote = tmp_path / "remote" / crop.relative_to(tmp_path / "local")
        assert remote.read_bytes() == crop.read_bytes()
    again = crop_images([place_at(f"{url}/a.fits")], place_at(f"{url}/sources.csv"), tmp_path / "remote", options)
    assert again.images_cut_now == 0
    with pytest.raises(DatasetError, match=r"cannot be read: no such object \[s3://.*b.fits\]"):
        crop_images([place_at(f"{url}/b.fits")], place_at(f"{url}/sources.csv"), tmp_path / "remote", options)
