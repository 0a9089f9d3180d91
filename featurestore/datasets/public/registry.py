"""The public datasets of the study: addresses, checksums and terms, as their publishers state them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RemoteFile:
    """One file on the web.

    Attributes:
        url: Its address.
        target: What it becomes below the dataset's folder: a file, or for an archive a folder.
        checksum: ``md5:HEX`` or ``sha256:HEX`` as its publisher states it; None: not stated anywhere.
    """

    url: str
    target: str
    checksum: str | None = None

    @property
    def name(self) -> str:
        """Its own file name."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class RemoteDataset:
    """A dataset on the web.

    Attributes:
        kind: Kind of dataset that opens its folder.
        files: Its files.
        terms: Where it comes from, its licence, whom to cite.
        folder: Folder below the output that is opened; empty: the output itself.
        arrange: What is left to do with the unpacked files; doing it again changes nothing.
    """

    kind: str
    files: tuple[RemoteFile, ...]
    terms: str
    folder: str = ""
    arrange: Callable[[Path], None] = lambda _: None


def pair_claran_annotations(root: Path) -> None:
    """Name the annotations of ClaRAN like its images: ``FIRSTJ1.xml`` serves the image ``FIRSTJ1_logminmax.png``.

    Annotations without an image move to the folder ``unused`` with the ending ``.txt``, where no reader looks for
    them. A second call changes nothing.
    """
    found = sorted((root / "Annotations").rglob("*.xml"))
    by_source = {path.stem.partition("_")[0]: path for path in found}
    wanted = {root / "Annotations" / f"{image.stem}.xml" for image in (root / "PNGImages").rglob("*.png")}
    for path in sorted(wanted):
        source = by_source.get(path.stem.partition("_")[0])
        if source and not path.exists():
            shutil.copyfile(source, path)
    (root / "unused").mkdir(exist_ok=True)
    for path in found:
        if path not in wanted:
            path.rename(root / "unused" / f"{path.stem}.txt")


_GALAXY_TERMS = (
    "GalaxyMNIST (github.com/mwalmsley/galaxy_mnist, GPL-3.0; no licence is stated for the images). Cite Galaxy Zoo "
    "DECaLS, Walmsley et al. 2022, MNRAS 509, 3966, and acknowledge DECaLS. Its HDF5 links were reported dead in "
    "March 2025 (issue 3 there); github.com/mwalmsley/galaxy-datasets offers the galaxies as pictures."
)
_CLARAN = "http://ict.icrar.org/store/staff/cwu/rgz_data"
_CLARAN_SETS = (
    "https://raw.githubusercontent.com/chenwuperth/rgz_rcnn/b526c237fea5c9a77bbe7bd0048f72cf93e733a4"
    "/data/RGZdevkit2017/RGZ2017/ImageSets/Main"
)


def _galaxy_mnist(train: tuple[str, str], test: tuple[str, str]) -> RemoteDataset:
    """One of the two sizes, by the share and the MD5 of each file."""
    parts = (("train", *train), ("test", *test))
    files = (
        RemoteFile(
            f"https://dl.dropboxusercontent.com/s/{share}/{part}_dataset.hdf5.gz", f"{part}_dataset.hdf5", f"md5:{md5}"
        )
        for part, share, md5 in parts
    )
    return RemoteDataset("galaxy_mnist", tuple(files), _GALAXY_TERMS)


REMOTE: dict[str, RemoteDataset] = {
    "galaxy_mnist": _galaxy_mnist(
        ("5a14de0o7slyif9", "e408ae294e9b975482dc1abffeb373a6"), ("5rza12nn24cwd2k", "7a940e4cea64a8b7cb60339098f74490")
    ),
    "galaxy_mnist_224": _galaxy_mnist(
        ("xenuo0ekgyi10ru", "3391dcddac14d5b4055db73fb600ae63"), ("lczri4sb4bbcgyh", "fb272c4e94000b4d99a09d638977b0b9")
    ),
    "mirabest": RemoteDataset(
        "mirabest",
        (
            RemoteFile(
                "http://www.jb.man.ac.uk/research/MiraBest/full_dataset/MiraBest_full_batches.tar.gz",
                "batches",
                "md5:965b5daa83b9d8622bb407d718eecb51",
            ),
        ),
        "MiraBest, Porter & Scaife 2023 (arXiv:2305.11108); see zenodo.org/record/4288837 for its licence. Images: the "
        "FIRST survey, copyright 1994 University of California, for scholarly, educational, and private "
        "non-commercial use.",
        folder="batches",
    ),
    "rgz": RemoteDataset(
        "rgz",
        (
            RemoteFile(f"{_CLARAN}/annotation.tar", "Annotations"),
            RemoteFile(f"{_CLARAN}/D1_images.tgz", "PNGImages"),
            RemoteFile(
                f"{_CLARAN_SETS}/trainD1.txt",
                "ImageSets/Main/trainD1.txt",
                "sha256:ec80376e1eaeca6059e8528c3e0f2b2b3e871ccfa13f8b24db055bebdae44f21",
            ),
            RemoteFile(
                f"{_CLARAN_SETS}/testD1.txt",
                "ImageSets/Main/testD1.txt",
                "sha256:7967e786fba653d63b81508acd0ecbcd378222976cf82295db65500790bfffca",
            ),
        ),
        "Radio Galaxy Zoo as ClaRAN uses it (github.com/chenwuperth/rgz_rcnn, MIT), Wu et al. 2019, MNRAS 482, 1211. "
        "Images: the FIRST survey, copyright 1994 University of California, for scholarly, educational, and private "
        "non-commercial use.",
        arrange=pair_claran_annotations,
    ),
}
