"""Labels and splits as text, turned into what a sample table holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featurestore.samples import UNLABELLED

SPLIT_NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
"""How splits are called outside -> their name in a sample table."""


def normalise_split(text: str | None) -> str:
    """The split's name in a sample table; an unknown one is returned as it is, for the table to refuse."""
    return SPLIT_NAMES.get((text or "").lower(), text or "")


def as_text(value: object) -> str | None:
    """The value as text; None for what is empty, null or NaN. Whole floats are numbers of a column with gaps."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, float):
        if np.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    return (str(value).strip() or None) if value is not None else None


def encode_labels(names: Sequence[str | None]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class names to labels.

    Args:
        names: One class name a row, None for a row without a label.

    Returns:
        Labels, int64 (n,), and the class names that they index: sorted, numbers by value and before words.
    """
    classes = tuple(sorted({name for name in names if name is not None}, key=_order))
    index: dict[str | None, int] = {name: label for label, name in enumerate(classes)}
    return np.array([index.get(name, UNLABELLED) for name in names], dtype=np.int64), classes


def _order(name: str) -> tuple[bool, int, str]:
    is_number = name.isascii() and name.isdecimal()
    return not is_number, int(name) if is_number else 0, name
