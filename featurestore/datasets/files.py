"""Image files in a folder: found in one walk, read one by one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.base import Sample
from featurestore.datasets.boundary import decoding
from featurestore.datasets.decoding.arrays import check_channels
from featurestore.datasets.decoding.fits import decode_fits, read_header
from featurestore.datasets.decoding.images import decode_image, digest_of_picture, digest_of_pixels
from featurestore.datasets.remote import Place, RemotePath, Stamp
from featurestore.datasets.source_file import open_file, read_file
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError
from featurestore.samples import SampleTable, join_notices

PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".jp2", ".avif",
    ".pgm", ".ppm", ".pbm", ".pnm",
)  # fmt: skip
FITS_SUFFIXES = (
    *(f"{plain}{packed}" for plain in (".fits", ".fit", ".fts") for packed in ("", ".gz", ".bz2", ".xz", ".z")), ".fz",
)  # fmt: skip
"""Endings in lower case, as names are compared."""

_COMPANIONS = (
    ".csv", ".tsv", ".ecsv", ".parquet", ".json", ".xml", ".txt", ".toml", ".yaml", ".yml", ".md", ".rst", ".html",
    ".pdf", ".py", ".ipynb", ".sh", ".log", ".bib", ".md5", ".sha256", "license", "readme", "thumbs.db", "desktop.ini",
)  # fmt: skip
"""Endings of what lies beside images and is none: nobody misses it among the samples."""

_Inode = tuple[int, int]

_PACKERS = (".gz", ".bz2", ".xz", ".z", ".zip", ".zst", ".lz4")

_NOT_READ = "the file cannot be read"


def is_picture(name: str) -> bool:
    """Whether the file is one for Pillow, by its name."""
    return name.lower().endswith(PICTURE_SUFFIXES)


def is_fits(name: str) -> bool:
    """Whether the file is a FITS file, by its name."""
    return name.lower().endswith(FITS_SUFFIXES)


def is_image(name: str) -> bool:
    """Whether the file is an image of either kind, by its name."""
    return is_picture(name) or is_fits(name)


def stem_of(path: str) -> str:
    """The path without the suffix of its image format, however many parts that has."""
    ending = max((suffix for suffix in FITS_SUFFIXES if path.lower().endswith(suffix)), key=len, default="")
    return path[: -len(ending)] if ending else PurePosixPath(path).with_suffix("").as_posix()


def walk(folder: Place) -> Iterator[tuple[str, Stamp]]:
    """Every file below `folder`, in no order: its relative POSIX path, and what makes its fingerprint.

    Hidden files and folders are left out. Links are followed, but not back into a folder that they lie in.

    Raises:
        DatasetError: The folder, or one inside it, cannot be listed; or a name is not UTF-8.
    """
    return folder.files() if isinstance(folder, RemotePath) else _walk_disk(folder)


def _walk_disk(folder: Path) -> Iterator[tuple[str, Stamp]]:
    pending = [("", frozenset[_Inode]())]
    try:
        while pending:
            prefix, above = pending.pop()
            place = _inode(folder / prefix)
            if place in above:
                continue
            with os.scandir(folder / prefix) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        pending.append((f"{prefix}{entry.name}/", above | {place}))
                    else:
                        yield _checked(prefix + entry.name, folder), partial(_stamp, entry)
    except OSError as error:
        raise DatasetError(
            f"the folder cannot be listed: {error.strerror}",
            where=error.filename or folder,
            hint="Check the path and its permissions.",
        ) from error


def _inode(folder: Path) -> _Inode:
    """What a folder is, by whatever path it is reached."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _checked(path: str, folder: Path) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"a file name is not UTF-8: {path!r}", where=folder, hint="Rename the file.") from error
    return path


class FoundImages(dict[str, int]):
    """Relative POSIX path of an image -> its fingerprint, sorted by path.

    Attributes:
        notice: How many files of which endings lie there and are not read.
    """

    notice = ""


def find_images(
    folder: Place,
    wanted: Callable[[str], bool] = is_image,
    salt: object = None,
    catalogue: Place | None = None,
) -> FoundImages:
    """The images below a folder.

    Args:
        folder: Where to look.
        wanted: Whether a file of that name is an image.
        salt: What else decides the pixels, such as a FITS extension; part of the fingerprint.
        catalogue: A file that is not an image, whatever its name.

    Returns:
        Paths and fingerprints: 64 bits of BLAKE2b over size, times (ns), inode and salt; in an object store over size,
        entity tag and salt.

    Raises:
        EmptyDatasetError: No image; the message names what lies there instead.
        DatasetError: The folder cannot be listed.
    """
    found: dict[str, int] = {}
    others: list[str] = []
    for path, stamp in walk(folder):
        name = path.rpartition("/")[2]
        if wanted(name) and not _is_same(folder / path, catalogue):
            found[path] = stamp(salt)
        else:
            others.append(path)
    if not found:
        rest = _count(others) or "nothing"
        accepted = " ".join(suffix for suffix in (*PICTURE_SUFFIXES, *FITS_SUFFIXES) if wanted(f"x{suffix}"))
        raise EmptyDatasetError(f"no images in the folder, but {rest}", where=folder, hint=f"Accepted: {accepted}.")
    images = FoundImages(sorted(found.items()))
    left_out = [p for p in others if ending_of(p) not in _COMPANIONS and not _is_same(folder / p, catalogue)]
    if left_out:
        images.notice = f"Files left out, since they are not read as images here: {_count(left_out)}."
    return images


def _is_same(path: Place, catalogue: Place | None) -> bool:
    return catalogue is not None and path.name == catalogue.name and path.resolve() == catalogue.resolve()


def ending_of(path: str) -> str:
    """The ending in lower case, with that of a packer, as in ``.fits.zip``; the whole name if it has none."""
    name = PurePosixPath(path.lower())
    packed = "".join(name.suffixes[-2:])
    return packed if name.suffix in _PACKERS else name.suffix or name.name


def _count(paths: Sequence[str]) -> str:
    """The most frequent endings, each with the number of its files."""
    counts = sorted(Counter(ending_of(path) for path in paths).items(), key=lambda one: (-one[1], one[0]))
    rest = sum(count for _, count in counts[5:])
    texts = [f"{count:,} x {ending}" for ending, count in counts[:5]]
    return ", ".join(texts) + (f" and {rest:,} others" if rest else "")


def image_kinds(folder: Place) -> set[str]:
    """Which of ``picture`` and ``fits`` lie below a folder."""
    kinds = set()
    for path, _ in walk(folder):
        if is_picture(path):
            kinds.add("picture")
        elif is_fits(path):
            kinds.add("fits")
    return kinds


def _stamp(entry: os.DirEntry[str], salt: object) -> int:
    try:
        status = entry.stat()
    except FileNotFoundError:  # a link to nowhere: still a row, which reading will report
        status = entry.stat(follow_symlinks=False)
    return fingerprint_of(status, salt=salt)


def fingerprint_of(*files: os.stat_result, salt: object = None) -> int:
    """64 bits of BLAKE2b over what tells that a file was written, and `salt`.

    Size and time of the last change alone do not: ``rsync -t``, ``tar`` and ``cp -p`` set the time to an older one. The
    time at which the system noted the change, and the number of the file, cannot be set.
    """
    text = repr(([(file.st_size, file.st_mtime_ns, file.st_ctime_ns, file.st_ino) for file in files], salt))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def fingerprints_of(paths: Sequence[str], found: Mapping[str, int]) -> NDArray[np.uint64]:
    """Fingerprints of these paths, uint64 (n,)."""
    return np.array([found[path] for path in paths], dtype=np.uint64)


def some_of(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def check_match(missing: Sequence[str], surplus: Sequence[str], where: Place) -> None:
    """Refuse annotations without an image and images without an annotation.

    Raises:
        LabelMismatchError: The message lists the first few.
    """
    if missing:
        raise LabelMismatchError(
            f"{len(missing)} rows name an image that is not there: {some_of(missing)}",
            where=where,
            hint="Add the images, or correct the names.",
        )
    if surplus:
        raise LabelMismatchError(
            f"{len(surplus)} images have no row: {some_of(surplus)}",
            where=where,
            hint="Add a row for each image (an empty label marks it as unlabelled), or move the images elsewhere.",
        )


class FileDataset:
    """Base of readers whose images are files, decoded when they are asked for.

    Args:
        table: The samples.
        root: Folder that `paths` start from.
        paths: One relative POSIX path a sample.
        extension: HDU to read of FITS files; see `decode_fits`.
        notice: What the user should know of the files, beside what the table tells.
        channels: Where FITS cubes have their bands; see `decode_fits`.
    """

    def __init__(
        self,
        table: SampleTable,
        root: Place,
        paths: Sequence[str],
        extension: str | int | None = None,
        notice: str = "",
        channels: str | None = None,
    ) -> None:
        check_channels(channels)
        self._table = replace(table, notice=join_notices(table.notice, notice))
        self._root, self._paths, self._extension, self._channels = root, paths, extension, channels
        self._decoder = "+".join(sorted({"astropy" if is_fits(path) else "pillow" for path in paths}))

    @property
    def table(self) -> SampleTable:
        """Ids, labels, splits, groups, boxes."""
        return self._table

    @property
    def decoder(self) -> str:
        """``pillow``, ``astropy``, or ``astropy+pillow`` for a dataset with files of both kinds."""
        return self._decoder

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, row: int) -> Sample:
        """Decode one image; see `decode_image` and `decode_fits`.

        Raises:
            UnreadableImageError: The file cannot be read or decoded, or is not a regular file.
        """
        path = self._root / self._paths[row]
        if is_fits(path.name):
            with _open(path) as file:
                image = decode_fits(file, str(path), self._extension, self._channels)
            return Sample(image, digest_of_pixels(image))
        with decoding(path, _NOT_READ):
            data = read_file(path)
        image = decode_image(data, str(path))
        return Sample(image, digest_of_picture(data, image))

    def header(self, row: int) -> Any:
        """The FITS header of the image of `row`, `astropy.io.fits.Header`; None for a picture.

        Raises:
            UnreadableImageError: The file cannot be read.
        """
        path = self._root / self._paths[row]
        if not is_fits(path.name):
            return None
        with _open(path) as file:
            return read_header(file, str(path), self._extension)


def _open(path: Place) -> BinaryIO:
    with decoding(path, _NOT_READ):
        return open_file(path)
