from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from featurestore.datasets import open_dataset
from featurestore.datasets.public.fetch import RECORD, fetch
from featurestore.datasets.public.registry import REMOTE, RemoteDataset, RemoteFile
from featurestore.errors import DatasetError, UnknownNameError


def hdf5(n: int, side: int) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content["images"] = np.random.default_rng(n).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
        content["labels"] = np.arange(n, dtype=np.uint8) % 4
    return file.getvalue()


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def publish(site: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a dataset on the local server; a file is its path there, what it becomes, and its content."""

    def apply(kind: str, *files: tuple[str, str, bytes], checksums: bool = True, **fields: Any) -> None:
        site.files |= {path: content for path, _, content in files}
        remote = (
            RemoteFile(site.url(path), target, f"md5:{hashlib.md5(content).hexdigest()}" if checksums else None)
            for path, target, content in files
        )
        monkeypatch.setitem(REMOTE, "toy", RemoteDataset(kind, tuple(remote), "Cite us.", **fields))

    return apply


@pytest.mark.parametrize("side", [64, 224])
def test_galaxy_mnist_is_fetched_and_opened(publish: Callable[..., None], site: Any, tmp_path: Path, side: int) -> None:
    files = [
        (f"/{n}/{part}_dataset.hdf5.gz", f"{part}_dataset.hdf5", hdf5(n, side))
        for n, part in ((6, "train"), (3, "test"))
    ]
    publish("galaxy_mnist", *[(path, target, gzip.compress(content)) for path, target, content in files])
    steps: dict[str, int] = {}
    report = fetch("toy", tmp_path / "out", lambda name: lambda done, _: steps.__setitem__(name, done))
    dataset = open_dataset(report.dataset)
    assert dataset.table.splits.tolist() == ["train"] * 6 + ["test"] * 3
    assert dataset.read(0).image.shape == (side, side, 3)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*5")) == ["test_dataset.hdf5", "train_dataset.hdf5"]
    assert set(steps) == {"train_dataset.hdf5.gz", "test_dataset.hdf5.gz"}
    assert report.unverified == () and report.terms == "Cite us."


def test_a_second_call_asks_for_nothing(publish: Callable[..., None], site: Any, tmp_path: Path) -> None:
    publish("npy", ("/a.bin", "a.bin", b"a"), ("/b.bin", "b.bin", b"b"))
    first = fetch("toy", tmp_path)
    assert len(site.asked) == 2
    assert fetch("toy", tmp_path) == first
    assert len(site.asked) == 2
    (tmp_path / "a.bin").unlink()
    assert fetch("toy", tmp_path) == first
    assert len(site.asked) == 3


def test_what_arrived_is_recorded(publish: Callable[..., None], site: Any, tmp_path: Path) -> None:
    publish("npy", ("/a.bin", "a.bin", b"stars"), checksums=False)
    report = fetch("toy", tmp_path)
    url, expected = site.url("/a.bin"), f"sha256:{hashlib.sha256(b'stars').hexdigest()}"
    assert report.unverified == (url,)
    assert report.checksums == {url: expected}
    assert json.loads((tmp_path / RECORD).read_bytes()) == {url: {"checksum": expected, "bytes": 5}}


def test_an_archive_becomes_a_folder(publish: Callable[..., None], tmp_path: Path) -> None:
    publish(
        "mirabest", ("/a.tar.gz", "batches", tar({"batches/one": b"1", "batches/two/three": b"3"})), folder="batches"
    )
    report = fetch("toy", tmp_path)
    assert report.dataset == f"mirabest:{(tmp_path / 'batches').resolve()}"
    assert (tmp_path / "batches" / "one").read_bytes() == b"1"
    assert (tmp_path / "batches" / "two" / "three").read_bytes() == b"3"


def test_an_archive_without_a_folder_of_its_own(publish: Callable[..., None], tmp_path: Path) -> None:
    publish("mirabest", ("/a.tgz", "batches", tar({"one": b"1", "two": b"2"})))
    fetch("toy", tmp_path)
    assert sorted(path.name for path in (tmp_path / "batches").iterdir()) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("/a.tgz", b"no archive"),
        ("/a.gz", b"no archive"),
        ("/a.gz", gzip.compress(bytes(100_000))[:-20]),
        ("/a.tar", lzma.compress(tar({"a": b"1"}))[:-20]),
        ("/a.tgz", tar({"../outside": b"1"})),
    ],
)
def test_an_archive_that_cannot_be_unpacked(
    publish: Callable[..., None], tmp_path: Path, name: str, content: bytes
) -> None:
    publish("npy", (name, "target", content))
    with pytest.raises(DatasetError, match=r"the file cannot be unpacked: .*the same command downloads it again"):
        fetch("toy", tmp_path / "out")
    assert not (tmp_path / "out" / "target").exists() and not (tmp_path / "out" / RECORD).exists()
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("text", ["{", "[1]", "3", "[" * 100_000])
def test_a_damaged_record(publish: Callable[..., None], tmp_path: Path, text: str) -> None:
    publish("npy", ("/a.bin", "a.bin", b"a"))
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(DatasetError, match="the record cannot be read"):
        fetch("toy", tmp_path)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown public dataset 'galaxy_mnst'.*galaxy_mnist"):
        fetch("galaxy_mnst", tmp_path)


def test_the_folder_is_called_like_the_dataset(
    publish: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    publish("npy", ("/a.bin", "a.bin", b"a"))
    assert fetch("toy").dataset == f"npy:{tmp_path.resolve() / 'toy'}"
