"""SampleTable: what a dataset knows of its samples apart from their pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DatasetError, LabelMismatchError
from featurestore.registry import unknown_name

UNLABELLED = -1
"""Label of a row without a label."""

SPLITS = ("train", "valid", "test", "")
"""Allowed names of a split; the empty one is a row that belongs to none."""


def join_notices(*texts: str) -> str:
    """Notices below each other; empty ones are left out."""
    return "\n".join(filter(None, texts))


def _is_storable(text: str) -> bool:
    return "\0" not in text and text.encode(errors="replace").decode() == text


def hash_ids(ids: Iterable[str]) -> NDArray[np.uint64]:
    """uint64 (n,): BLAKE2b-64 of each sample id, which features carry along to prove whose they are."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


@dataclass(frozen=True)
class Boxes:
    """Boxes of all samples, one row a box.

    Boxes are pixel edges ``x0, y0, x1, y1`` in the image as `ImageDataset.read` returns it: x to the right, y down,
    (0, 0) the outer corner of the first pixel.

    Attributes:
        row: int64 (m,), the sample of each box.
        xyxy: float32 (m, 4), in pixels.
        label: int64 (m,), index into `SampleTable.box_classes`.
        crowd: bool (m,), regions that are neither object nor background.
    """

    row: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    label: NDArray[np.int64]
    crowd: NDArray[np.bool_]

    def of(self, row: int) -> NDArray[np.float32]:
        """Boxes of one sample without crowd regions, float32 (k, 4)."""
        boxes: NDArray[np.float32] = self.xyxy[(self.row == row) & ~self.crowd]
        return boxes

    def take(self, rows: NDArray[np.int64]) -> Boxes:
        """Boxes of these samples, whose rows are counted anew in this order."""
        new_row = {int(old): new for new, old in enumerate(rows)}
        keep = np.isin(self.row, rows)
        renumbered = np.array([new_row[int(old)] for old in self.row[keep]], dtype=np.int64)
        return Boxes(renumbered, self.xyxy[keep], self.label[keep], self.crowd[keep])


@dataclass(frozen=True)
class SampleTable:
    """Ids, labels, splits, groups and boxes of a dataset, in row order.

    Attributes:
        name: Name of the dataset, fit for a folder name.
        sample_ids: n unique strings.
        labels: Label scheme -> int64 (n,); `UNLABELLED` marks rows without a label. The first scheme is the default.
        classes: Label scheme -> class names; a label is an index into them.
        splits: Strings (n,), each one of `SPLITS`.
        fingerprints: uint64 (n,): a cheap mark that changes when the image behind the row changes (size, times, inode
            of a file, checksum of a zip member); it is compared, never interpreted.
        groups: Strings (n,) or None: samples of one group never straddle train and test.
        sky: float64 (n, 2) or None: right ascension and declination (ICRS), in degrees; NaN where unknown.
        boxes: Boxes or None.
        box_classes: Class names of the boxes.
        source: Where the samples come from.
        notice: What to show when the dataset is used: its licence, and what its reader left out or took for missing.
    """

    name: str
    sample_ids: Sequence[str]
    labels: Mapping[str, NDArray[np.int64]]
    classes: Mapping[str, tuple[str, ...]]
    splits: NDArray[np.str_]
    fingerprints: NDArray[np.uint64]
    groups: NDArray[np.str_] | None = None
    sky: NDArray[np.float64] | None = None
    boxes: Boxes | None = None
    box_classes: tuple[str, ...] = ()
    source: str = ""
    notice: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        self._check_text()
        self._check_ids()
        self._check_columns()
        self._check_labels()

    def __len__(self) -> int:
        return len(self.sample_ids)

    @cached_property
    def id_hashes(self) -> NDArray[np.uint64]:
        """uint64 (n,): see `hash_ids`."""
        return hash_ids(self.sample_ids)

    @property
    def schemes(self) -> tuple[str, ...]:
        """Names of the label schemes; the first is the default."""
        return tuple(self.labels)

    def scheme(self, name: str | None = None) -> str:
        """`name` if the table has that label scheme, the default scheme for None.

        Raises:
            UnknownNameError: No such scheme.
            LabelMismatchError: The dataset has no labels at all.
        """
        if not self.labels:
            raise LabelMismatchError(
                "the dataset has no labels",
                where=self.name,
                hint="Give labels by class folders or a catalogue with a label column.",
            )
        if name is None:
            return self.schemes[0]
        if name not in self.labels:
            raise unknown_name("label scheme", name, self.schemes)
        return name

    def take(self, rows: NDArray[np.int64]) -> SampleTable:
        """The table of these rows, in this order; boxes follow their samples."""
        rows = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            sample_ids=tuple(self.sample_ids[row] for row in rows),
            labels={scheme: labels[rows] for scheme, labels in self.labels.items()},
            splits=self.splits[rows],
            fingerprints=self.fingerprints[rows],
            groups=None if self.groups is None else self.groups[rows],
            sky=None if self.sky is None else self.sky[rows],
            boxes=None if self.boxes is None else self.boxes.take(rows),
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids and fingerprints: equal for the same images in the same order."""
        sha = hashlib.sha256("\0".join(self.sample_ids).encode())
        sha.update(np.ascontiguousarray(self.fingerprints).tobytes())
        return sha.hexdigest()

    @cached_property
    def box_fingerprints(self) -> NDArray[np.uint64]:
        """uint64 (n,): `fingerprints` that change with the boxes too, for pixels that are cut out by them."""
        if self.boxes is None:
            return self.fingerprints
        kept = np.flatnonzero(~self.boxes.crowd)
        order = kept[np.argsort(self.boxes.row[kept], kind="stable")]
        edges = np.searchsorted(self.boxes.row[order], np.arange(1, len(self)))
        parts = np.split(self.boxes.xyxy[order], edges) if len(self) else []
        marks = [hashlib.blake2b(part.tobytes(), digest_size=8).digest() for part in parts]
        return self.fingerprints ^ np.frombuffer(b"".join(marks), dtype="<u8").astype(np.uint64)

    def label_digest(self, scheme: str | None = None) -> str:
        """SHA-256 over ids, splits, groups, classes and labels of one scheme: what decides a probe's rows."""
        scheme = self.scheme(scheme)
        sha = hashlib.sha256("\0".join((*self.sample_ids, *self.classes[scheme], *self.splits)).encode())
        sha.update(self.labels[scheme].astype("<i8").tobytes())
        if self.groups is not None:
            sha.update("\0".join(self.groups).encode())
        return sha.hexdigest()

    def _check_text(self) -> None:
        """Text that UTF-8 cannot hold, or with a NUL (numpy drops those at the end), would not come back as it is."""
        texts = {"sample id": self.sample_ids, "box class": self.box_classes, "label scheme": self.schemes}
        texts |= {f"class of {scheme}": names for scheme, names in self.classes.items()}
        texts |= {"group": self.groups.tolist()} if self.groups is not None else {}
        for what, values in texts.items():
            if not _is_storable("".join(values)):
                strange = next(value for value in values if not _is_storable(value))
                raise DatasetError(
                    f"a {what} is not Unicode text, or holds a NUL: {strange!r}", where=self.name, hint="Rename it."
                )

    def _check_ids(self) -> None:
        if len(set(self.sample_ids)) == len(self.sample_ids):
            return
        ids, counts = np.unique(np.asarray(self.sample_ids), return_counts=True)
        twice = ", ".join(ids[counts > 1][:5])
        raise DatasetError(f"sample ids occur more than once: {twice}", where=self.name, hint="Make ids unique.")

    def _check_columns(self) -> None:
        columns = {"splits": self.splits, "fingerprints": self.fingerprints, **self.labels}
        columns |= {name: getattr(self, name) for name in ("groups", "sky") if getattr(self, name) is not None}
        for name, column in columns.items():
            if len(column) != len(self):
                raise LabelMismatchError(
                    f"{len(column)} values of {name!r} for {len(self)} images",
                    where=self.name,
                    hint="Give exactly one value an image.",
                )
        strange = sorted(set(self.splits.tolist()) - set(SPLITS))
        if strange:
            raise DatasetError(
                f"unknown splits {strange}", where=self.name, hint="Use train, valid, test, or leave it empty."
            )

    def _check_labels(self) -> None:
        for scheme, labels in self.labels.items():
            n_classes = len(self.classes.get(scheme, ()))
            if len(labels) and (labels.min() < UNLABELLED or labels.max() >= n_classes):
                raise LabelMismatchError(
                    f"labels of scheme {scheme!r} lie outside its {n_classes} classes",
                    where=self.name,
                    hint="Name every class, and mark unlabelled rows with -1.",
                )
