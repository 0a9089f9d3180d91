"""Images that lie in arrays: several files, one after the other, as one dataset."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.base import Sample
from featurestore.datasets.decoding.images import digest_of_pixels
from featurestore.datasets.files import fingerprint_of
from featurestore.datasets.labels import SPLIT_NAMES
from featurestore.errors import EmptyDatasetError
from featurestore.samples import SampleTable


class Concatenation:
    """Rows of several parts, one after the other, numbered from 0.

    Args:
        sizes: Rows of each part.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        self._ends = list(accumulate(sizes))

    def __len__(self) -> int:
        return self._ends[-1]

    def locate(self, row: int) -> tuple[int, int]:
        """The part that a row lies in, and its row there."""
        part = bisect_right(self._ends, row)
        return part, row - (self._ends[part - 1] if part else 0)


class ImageArray(Protocol):
    """The images of one file."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def __len__(self) -> int: ...

    def read(self, row: int) -> NDArray[Any]:
        """One image, (H, W) or (H, W, C).

        Raises:
            UnreadableImageError: The bytes of the image are damaged.
        """
        ...


class ArrayDataset:
    """Base of readers whose images are rows of arrays.

    Args:
        table: The samples.
        parts: The files, in the order of the samples.
    """

    decoder = "array"

    def __init__(self, table: SampleTable, parts: Sequence[ImageArray]) -> None:
        self._table, self._parts = table, parts
        self._rows = Concatenation(len(part) for part in parts)

    @property
    def table(self) -> SampleTable:
        """Ids, labels and splits."""
        return self._table

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, row: int) -> Sample:
        """One image.

        Raises:
            UnreadableImageError: The bytes of the image are damaged.
        """
        part, own = self._rows.locate(row)
        image = self._parts[part].read(own)
        return Sample(image, digest_of_pixels(image))


def file_columns(parts: Sequence[ImageArray], where: Path) -> dict[str, Any]:
    """Splits and fingerprints of a sample table: every row has those of its file.

    A file whose name begins with the name of a split belongs to that one.

    Raises:
        EmptyDatasetError: The files hold no images.
    """
    sizes = [len(part) for part in parts]
    if not sum(sizes):
        raise EmptyDatasetError("the files hold no images", where=where, hint="Download or write them again.")
    fingerprints = np.array([fingerprint_of(part.path.stat()) for part in parts], dtype=np.uint64)
    return {
        "splits": np.repeat([_split_of(part.path) for part in parts], sizes),
        "fingerprints": np.repeat(fingerprints, sizes),
    }


def row_names(part: ImageArray) -> list[str]:
    """Sample ids of a file whose rows have no names: ``STEM/ROW``."""
    return [f"{part.path.stem}/{row:06d}" for row in range(len(part))]


def _split_of(path: Path) -> str:
    return next((split for prefix, split in SPLIT_NAMES.items() if path.stem.startswith(prefix)), "")
