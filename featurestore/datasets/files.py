"""Image files in a folder: found in one walk, read one by one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.base import Sample
from featurestore.datasets.decoding.fits import decode_fits, read_header
from featurestore.datasets.decoding.images import decode_image, digest_of, digest_of_pixels
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError, UnreadableImageError
from featurestore.samples import SampleTable

PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".jp2", ".avif", ".pgm", ".ppm", ".pbm", ".pnm",
)  # fmt: skip
FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fz", ".fits.gz", ".fit.gz", ".fts.gz")


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


def walk(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below `folder` by its relative POSIX path, in no order; hidden files and folders are left out.

    Raises:
        DatasetError: The folder, or one inside it, cannot be listed; or a name is no UTF-8.
    """
    pending = [""]
    try:
        while pending:
            prefix = pending.pop()
            with os.scandir(folder / prefix) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        pending.append(f"{prefix}{entry.name}/")
                    else:
                        yield _checked(prefix + entry.name, folder), entry
    except OSError as error:
        raise DatasetError(
            f"the folder cannot be listed: {error.strerror}",
            where=error.filename or folder,
            hint="Check the path and its permissions.",
        ) from error


def _checked(path: str, folder: Path) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"a file name is not UTF-8: {path!r}", where=folder, hint="Rename the file.") from error
    return path


def find_images(folder: Path, wanted: Callable[[str], bool] = is_image, salt: object = None) -> dict[str, int]:
    """The images below a folder.

    Args:
        folder: Where to look.
        wanted: Whether a file of that name is an image.
        salt: What else decides the pixels, such as a FITS extension; part of the stamp.

    Returns:
        Relative POSIX path -> stamp: 64 bits of BLAKE2b over size, time of change (ns) and salt; sorted by path.

    Raises:
        EmptyDatasetError: No image; the message names what lies there instead.
        DatasetError: The folder cannot be listed.
    """
    found: dict[str, int] = {}
    others: Counter[str] = Counter()
    for path, entry in walk(folder):
        if wanted(entry.name):
            found[path] = fingerprint_of(_status(entry), salt=salt)
        else:
            others[PurePosixPath(path).suffix or entry.name] += 1
    if not found:
        rest = ", ".join(f"{count} x {suffix}" for suffix, count in others.most_common(5)) or "nothing"
        accepted = " ".join(suffix for suffix in (*PICTURE_SUFFIXES, *FITS_SUFFIXES) if wanted(f"x{suffix}"))
        raise EmptyDatasetError(f"no images in the folder, but {rest}", where=folder, hint=f"Accepted: {accepted}.")
    return dict(sorted(found.items()))


def image_kinds(folder: Path) -> set[str]:
    """Which of ``picture`` and ``fits`` lie below a folder."""
    kinds = set()
    for path, _ in walk(folder):
        if is_picture(path):
            kinds.add("picture")
        elif is_fits(path):
            kinds.add("fits")
    return kinds


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except FileNotFoundError:  # a link to nowhere: still a row, which reading will report
        return entry.stat(follow_symlinks=False)


def fingerprint_of(*files: os.stat_result, salt: object = None) -> int:
    """64 bits of BLAKE2b over sizes, times of change (ns) and `salt`."""
    text = repr(([(file.st_size, file.st_mtime_ns) for file in files], salt))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def fingerprints_of(paths: Sequence[str], found: Mapping[str, int]) -> NDArray[np.uint64]:
    """Stamps of these paths, uint64 (n,)."""
    return np.array([found[path] for path in paths], dtype=np.uint64)


def some_of(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def check_match(missing: Sequence[str], surplus: Sequence[str], where: Path) -> None:
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
    """

    def __init__(
        self, table: SampleTable, root: Path, paths: Sequence[str], extension: str | int | None = None
    ) -> None:
        self._table, self._root, self._paths, self._extension = table, root, paths, extension
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
            UnreadableImageError: The file cannot be read or decoded.
        """
        path = self._root / self._paths[row]
        try:
            if is_fits(path.name):
                return self._read_fits(path)
            data = path.read_bytes()
        except OSError as error:
            raise UnreadableImageError(
                f"the file cannot be read: {error.strerror}", where=path, hint="Check the file and its permissions."
            ) from error
        return Sample(decode_image(data, str(path)), digest_of(data))

    def header(self, row: int) -> Any:
        """The FITS header of the image of `row`, `astropy.io.fits.Header`; None for a picture.

        Raises:
            UnreadableImageError: The file cannot be read.
        """
        path = self._root / self._paths[row]
        if not is_fits(path.name):
            return None
        with path.open("rb") as file:
            return read_header(file, str(path), self._extension)

    def _read_fits(self, path: Path) -> Sample:
        with path.open("rb") as file:
            image = decode_fits(file, str(path), self._extension)
        return Sample(image, digest_of_pixels(image))
