"""The VLA FIRST radio galaxies of the PyPI package ``firstgalaxydata``: 2,158 images in four classes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from threading import local
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from featurestore.datasets.base import Sample
from featurestore.datasets.boundary import reading
from featurestore.datasets.decoding.images import decode_image, digest_of
from featurestore.datasets.naming import identity
from featurestore.errors import DatasetError, EmptyDatasetError, MissingDependencyError, UnreadableImageError
from featurestore.samples import SampleTable

CLASSES = ("FRI", "FRII", "Compact", "Bent")

NOTICE = (
    "Images: the FIRST survey (R. J. Becker, D. H. Helfand, R. L. White, M. D. Gregg, S. A. Laurent-Muehleisen), "
    "copyright 1994 University of California. Permission is granted for publication and reproduction of this material "
    "for scholarly, educational, and private non-commercial use."
)

_PACKAGE, _ARCHIVE = "firstgalaxydata", "galaxy_data.zip"
_AGAIN = "Install firstgalaxydata again."


class First:
    """Images of the archive inside the package, which is not imported (that would import torch).

    Args:
        path: The archive ``galaxy_data.zip``; None: the one of the installed package.
        name: Name of the dataset; by default ``first``, or made from the path.

    Raises:
        MissingDependencyError: The package is not installed.
        DatasetError: The archive cannot be read.
    """

    decoder = "pillow"

    def __init__(self, path: str | None = None, *, name: str | None = None) -> None:
        self._path = Path(path) if path else _installed_archive()
        self._handles = local()
        with reading(self._path, "the archive cannot be read", hint=_AGAIN), ZipFile(self._path) as archive:
            self._members = _images(archive)
        if not self._members:
            raise EmptyDatasetError(
                "no images in the archive", where=self._path, hint=f"Give the package's {_ARCHIVE}."
            )
        own = identity("first", self._path, name) if path else {"name": name or "first", "source": "first"}
        self._table = _table(self._members, own)

    @property
    def table(self) -> SampleTable:
        """Ids are ``SPLIT/CLASS/RA_DEC_LABEL_CATALOGUE.png``."""
        return self._table

    def __len__(self) -> int:
        return len(self._members)

    def read(self, row: int) -> Sample:
        """Decode one image, uint8 (300, 300).

        Raises:
            UnreadableImageError: The member of the archive is damaged.
        """
        where = self._table.sample_ids[row]
        with reading(where, "the archive is damaged", hint=_AGAIN, error=UnreadableImageError):
            data = self._archive().read(self._members[row])
        return Sample(decode_image(data, where), digest_of(data))

    def _archive(self) -> ZipFile:
        """A handle of this thread alone: a shared one would make threads wait for each other."""
        archive: ZipFile | None = getattr(self._handles, "archive", None)
        if archive is None:
            archive = self._handles.archive = ZipFile(self._path)
        return archive


def _installed_archive() -> Path:
    found = find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise MissingDependencyError(
            f"the package {_PACKAGE} is not installed", where="first", hint="Install it: pip install 'skyprobe[demo]'."
        )
    return Path(found.submodule_search_locations[0]) / _ARCHIVE


def _images(archive: ZipFile) -> list[ZipInfo]:
    """Members ``galaxy_data/SPLIT/CLASS/NAME.png``, sorted; the folder ``all`` holds the same images again."""
    images = [member for member in archive.infolist() if _is_image(PurePosixPath(member.filename))]
    return sorted(images, key=lambda member: member.filename)


def _is_image(path: PurePosixPath) -> bool:
    return path.suffix == ".png" and len(path.parts) == 4 and path.parts[1] in ("train", "valid", "test")


def _table(members: list[ZipInfo], own: Mapping[str, Any]) -> SampleTable:
    parts = [PurePosixPath(member.filename).parts[1:] for member in members]
    strange = {part[1] for part in parts}.difference(CLASSES)
    if strange:
        raise DatasetError(
            f"unknown class {min(strange)!r} in the archive", where=own["source"], hint=f"Known: {', '.join(CLASSES)}."
        )
    return SampleTable(
        **own,
        sample_ids=tuple("/".join(part) for part in parts),
        labels={"morphology": np.array([CLASSES.index(part[1]) for part in parts], dtype=np.int64)},
        classes={"morphology": CLASSES},
        splits=np.array([part[0] for part in parts]),
        fingerprints=np.array([member.CRC << 32 | member.file_size for member in members], dtype=np.uint64),
        notice=NOTICE,
    )
