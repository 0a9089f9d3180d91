"""Labels and splits from the names of folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.datasets.labels import SPLIT_NAMES, encode_labels, normalise_split, scheme_fields
from featurestore.errors import DatasetError, LabelMismatchError

SCHEME = "class"
"""Label scheme of class folders."""


def read_layout(paths: Sequence[str], root: Path, keep: str | Sequence[str] = ()) -> dict[str, Any]:
    """Labels, classes, splits and a notice of missing labels, for a sample table.

    The layouts are ``IMAGE``, ``CLASS/IMAGE``, ``SPLIT/IMAGE`` and ``SPLIT/CLASS/IMAGE``, where SPLIT is one of
    train, valid, val, validation and test; folders inside a class folder belong to that class. Each split may have
    class folders or none.

    Args:
        paths: Relative POSIX paths.
        root: The folder they start from, for messages.
        keep: Names of class folders that are labels although they look like missing values, such as NA.

    Raises:
        LabelMismatchError: Images lie beside class folders.
        DatasetError: Some but not all folders are called like splits.
    """
    parts = [tuple(path.split("/")) for path in paths]
    if _has_splits({part[0] for part in parts if len(part) > 1}, root):
        splits = [part[0] if len(part) > 1 else "" for part in parts]
        parts = [part[1:] if len(part) > 1 else part for part in parts]
    else:
        splits = [""] * len(parts)
    for split in set(splits):
        _check_depths([p for p, own in zip(parts, splits, strict=True) if own == split], root / split)
    folders = [part[0] if len(part) > 1 else None for part in parts]
    schemes = {SCHEME: encode_labels(folders, keep)} if any(folders) else {}
    return {
        **scheme_fields(schemes),
        "splits": np.array([normalise_split(split) for split in splits], dtype=np.str_),
    }


def _has_splits(folders: set[str], root: Path) -> bool:
    splits = sorted(folder for folder in folders if folder.lower() in SPLIT_NAMES)
    others = sorted(folders.difference(splits))
    if splits and others:
        raise DatasetError(
            f"folders called like splits ({', '.join(splits)}) lie beside others ({', '.join(others[:5])})",
            where=root,
            hint="Keep only splits, or only classes, side by side.",
        )
    return bool(splits)


def _check_depths(parts: Sequence[tuple[str, ...]], folder: Path) -> None:
    loose = sorted(part[0] for part in parts if len(part) == 1)
    if loose and len(loose) < len(parts):
        raise LabelMismatchError(
            f"{len(loose)} images lie beside class folders: {', '.join(loose[:5])}",
            where=folder,
            hint="Move each image into the folder of its class, or unlabelled ones to a dataset of their own.",
        )
