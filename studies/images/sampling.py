"""Draws: images taken at random from a dataset, or by name, as a variant shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import EmptyDatasetError, PreprocessingError, UnreadableImageError
from featurestore.registry import unknown_name
from featurestore.samples import SampleTable
from featurestore.store.key import digest

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.preprocessing import Preprocessing

NO_BOXES = np.empty((0, 4), dtype=np.float32)

Candidates = tuple[NDArray[np.int64], int]
"""Rows in the order in which they are tried, and how many of them are wanted."""


class Draw:
    """Images that could be shown, in the order in which they were drawn.

    Attributes:
        table: The samples that they are drawn from.
        rows: Their rows in the table.
        images: What was read, n arrays.
        pixels: What the preprocessing made of them, n arrays float32 (C, S, S) in [0, 1].
        unreadable: Sample id -> why it was passed over.

    Args:
        dataset: Where images are read.
        table: The samples to draw from, by their ids.
        preprocessing: What they go through.
        wanted: What to draw.

    Raises:
        EmptyDatasetError: None of the images can be shown.
    """

    def __init__(
        self, dataset: ImageDataset, table: SampleTable, preprocessing: Preprocessing, wanted: Iterable[Candidates]
    ) -> None:
        self.table, self._dataset, self._preprocessing = table, dataset, preprocessing
        self._row_of = {sample: row for row, sample in enumerate(dataset.table.sample_ids)}
        self.rows: list[int] = []
        self.images: list[NDArray[Any]] = []
        self.pixels: list[NDArray[np.float32]] = []
        self.unreadable: dict[str, str] = {}
        for candidates, number in wanted:
            self._take(candidates, number)
        if not self.rows:
            raise EmptyDatasetError(
                "no image can be shown", where=table.name, hint="Choose another variant, or check the images."
            )

    def _take(self, candidates: NDArray[np.int64], number: int) -> None:
        enough = len(self.rows) + number
        for row in candidates.tolist():
            if len(self.rows) == enough:
                return
            sample = self.table.sample_ids[row]
            if sample not in self._row_of:
                self.unreadable[sample] = "the image is no longer at its source"
                continue
            try:
                image = self._dataset.read(self._row_of[sample]).image
                self.pixels.append(self._preprocessing.apply(image, boxes_of(self.table, row)))
            except (UnreadableImageError, PreprocessingError) as error:
                self.unreadable[sample] = str(error)
                continue
            self.images.append(image)
            self.rows.append(row)


def identify_samples(table: SampleTable, scheme: str) -> dict[str, Any]:
    """All of a table that decides what is drawn from it, as JSON values; an empty scheme: labels play no part."""
    boxes = table.boxes
    return {
        "dataset": table.name,
        "samples": table.fingerprint,
        "labels": table.label_digest(scheme) if scheme else "",
        "boxes": digest({"row": boxes.row.tolist(), "xyxy": boxes.xyxy.tolist()}) if boxes else "",
    }


def draw_each_class(table: SampleTable, scheme: str, per_class: int, seed: int) -> list[Candidates]:
    """As many of each class; without a scheme, six times as many of all."""
    rng = np.random.default_rng(seed)
    if not scheme:
        return [(rng.permutation(len(table)), 6 * per_class)]
    return [(rng.permutation(rows), per_class) for rows in _by_class(table, scheme)]


def draw_balanced(table: SampleTable, scheme: str, n_samples: int, seed: int) -> list[Candidates]:
    """A number of samples, spread over the classes as evenly as it goes; without a scheme, over all."""
    rng = np.random.default_rng(seed)
    classes = [rows for rows in _by_class(table, scheme) if len(rows)] if scheme else [np.arange(len(table))]
    whole, rest = divmod(n_samples, max(len(classes), 1))
    return [(rng.permutation(rows), whole + (place < rest)) for place, rows in enumerate(classes)]


def draw_named(table: SampleTable, sample_ids: Sequence[str]) -> list[Candidates]:
    """These samples in this order.

    Raises:
        UnknownNameError: The table has no such sample.
    """
    row_of = {sample: row for row, sample in enumerate(table.sample_ids)}
    for sample in sample_ids:
        if sample not in row_of:
            raise unknown_name("sample", sample, table.sample_ids)
    return [(np.array([row_of[sample]]), 1) for sample in sample_ids]


def boxes_of(table: SampleTable, row: int) -> NDArray[np.float32]:
    """float32 (m, 4); none where the table has none."""
    return NO_BOXES if table.boxes is None else table.boxes.of(row)


def to_picture(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 (S, S, 3) of float32 (C, S, S) in [0, 1]: the first three bands; fewer are repeated."""
    colours = pixels[np.arange(3) % len(pixels)]
    return np.round(np.moveaxis(colours, 0, -1) * 255).astype(np.uint8)


def _by_class(table: SampleTable, scheme: str) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(table.labels[scheme] == label) for label in range(len(table.classes[scheme]))]
