"""Radio Galaxy Zoo: COCO annotations with the study's six classes of components and peaks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.coco import Coco
from featurestore.errors import LabelMismatchError
from featurestore.samples import UNLABELLED, SampleTable

CLASSES = ("1C-1P", "1C-2P", "1C-3P", "2C-2P", "2C-3P", "3C-3P")
"""Components and peaks, in the order of Lastufka et al. 2025 (doi 10.1051/0004-6361/202553691)."""

_COUNTS = ("1", "2", "3")


class RGZ(Coco):
    """A COCO dataset whose categories are called ``1C-2P`` or ``1C_2P``: one component, two peaks.

    The label schemes are ``components-peaks`` (six classes), ``peaks`` and ``components`` (1, 2, 3). As in the study,
    an image is labelled if it holds exactly one object.

    Args:
        path: The folder; see `Coco`.
        name: Name of the dataset; by default made from the path.
        box_origin: As for `Coco`.
        extension: As for `Coco`.

    Raises:
        LabelMismatchError: A category is none of the six; or as for `Coco`.
        EmptyDatasetError: As for `Coco`.
        DatasetError: As for `Coco`.
    """

    _kind = "rgz"

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        box_origin: str | None = None,
        extension: str | int | None = None,
    ) -> None:
        super().__init__(path, name=name, box_origin=box_origin, extension=extension)
        self._table = _with_schemes(self._table)


def _with_schemes(table: SampleTable) -> SampleTable:
    single, categories = table.labels["single_object"], table.classes["single_object"]
    names = [_class_name(category, table.source) for category in categories]
    components, peaks = [name[0] for name in names], [name[3] for name in names]
    return replace(
        table,
        labels={
            "components-peaks": _relabel(single, names, CLASSES),
            "peaks": _relabel(single, peaks, _COUNTS),
            "components": _relabel(single, components, _COUNTS),
        },
        classes={"components-peaks": CLASSES, "peaks": _COUNTS, "components": _COUNTS},
        box_classes=tuple(names),
    )


def _class_name(category: str, where: str) -> str:
    name = re.sub(r"^(\d)C[-_](\d)P$", r"\1C-\2P", category)
    if name not in CLASSES:
        raise LabelMismatchError(
            f"the category {category!r} is none of {', '.join(CLASSES)}",
            where=where,
            hint="Rename the category, or open the folder as coco:PATH.",
        )
    return name


def _relabel(labels: NDArray[np.int64], names: Sequence[str], classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Labels that index `names` -> labels that index `classes`."""
    # The extra last entry is the one that UNLABELLED (-1) picks.
    return np.array([*(classes.index(name) for name in names), UNLABELLED], dtype=np.int64)[labels]
