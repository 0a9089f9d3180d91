"""Labels and splits from the names of folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from featurestore.datasets.labels import SPLIT_NAMES, encode_labels, normalise_split, scheme_fields
from featurestore.datasets.remote import Place
from featurestore.errors import DatasetError, LabelMismatchError
from featurestore.samples import join_notices

SCHEME = "class"
"""Label scheme of class folders."""


def read_layout(paths: Sequence[str], root: Place, keep: str | Sequence[str] = ()) -> dict[str, Any]:
    """Labels, classes, splits and a notice of missing labels, for a sample table.

    The layouts are ``IMAGE``, ``CLASS/IMAGE``, ``SPLIT/IMAGE`` and ``SPLIT/CLASS/IMAGE``, where SPLIT is one of
    train, training, valid, val, validation, test and testing; folders inside a class folder belong to that class, and
    the notice tells those called like splits. Each split may have class folders or none.

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
    fields = scheme_fields({SCHEME: encode_labels(folders, keep)} if any(folders) else {})
    return fields | {
        "splits": np.array([normalise_split(split) for split in splits], dtype=np.str_),
        "notice": join_notices(_tell_inner_splits(parts, root), fields["notice"]),
    }


def _tell_inner_splits(parts: Sequence[tuple[str, ...]], root: Place) -> str:
    """A notice of folders in class folders that are called like splits: they may be meant as such."""
    inner = sorted({"/".join(part[:2]) for part in parts if len(part) > 2 and part[1].lower() in SPLIT_NAMES})
    if not inner:
        return ""
    outer = {part[0] for part in parts}
    way = "put the folders of classes into those of splits" if len(outer) > 1 else f"open {root / outer.pop()}"
    return (
        f"Folders called like splits inside class folders are not read as splits: {', '.join(inner[:5])}. "
        f"If they are splits, {way}."
    )


def _has_splits(folders: set[str], root: Place) -> bool:
    splits = sorted(folder for folder in folders if folder.lower() in SPLIT_NAMES)
    others = sorted(folders.difference(splits))
    if splits and others:
        raise DatasetError(
            f"folders called like splits ({', '.join(splits)}) lie beside others ({', '.join(others[:5])})",
            where=root,
            hint="Keep only splits, or only classes, side by side.",
        )
    return bool(splits)


def _check_depths(parts: Sequence[tuple[str, ...]], folder: Place) -> None:
    loose = sorted(part[0] for part in parts if len(part) == 1)
    if loose and len(loose) < len(parts):
        raise LabelMismatchError(
            f"{len(loose)} images lie beside class folders: {', '.join(loose[:5])}",
            where=folder,
            hint="Move each image into the folder of its class, or unlabelled ones to a dataset of their own.",
        )
