"""SampleTable <-> Zarr: the samples of a dataset in store rows, which are handed out once and never change.

A dataset is a group whose attribute ``current`` names a revision, a subgroup named by its own digest. A revision is
written completely before ``current`` is switched to it, so that a reader sees the old table or the new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError
from featurestore.samples import UNLABELLED, Boxes, SampleTable
from featurestore.store.key import canonical_json
from featurestore.store.layout.names import escape
from featurestore.store.layout.storage import Storage
from featurestore.store.layout.text import decode_text, encode_text

Arrays = Mapping[str, NDArray[Any]]

_DIMENSIONS = {"box/xyxy": ("box", "edge"), "box/row": ("box",), "box/label": ("box",), "box/crowd": ("box",)}
_TEXT = ("sample_id", "split", "group")


@dataclass(frozen=True)
class StoredTable:
    """A dataset in store rows.

    Attributes:
        table: One entry a store row; blank (no label, split or box) where the dataset no longer has the sample.
        present: bool (n,), whether the dataset has the sample now.
    """

    table: SampleTable
    present: NDArray[np.bool_]

    @classmethod
    def first(cls, table: SampleTable) -> StoredTable:
        """A dataset at first sight: its order is the order of the store."""
        return cls(table, np.ones(len(table), dtype=bool))

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def samples(self) -> SampleTable:
        """The samples that the dataset has now, in store order."""
        return self.table if self.present.all() else self.table.take(np.flatnonzero(self.present))

    @property
    def id_hashes(self) -> NDArray[np.uint64]:
        """uint64 (n,): hash of each sample id."""
        return self.table.id_hashes

    @cached_property
    def revision(self) -> str:
        """Digest of everything in it, 16 hexadecimal digits."""
        return arrays_digest(_to_arrays(self), _to_attributes(self))[:16]

    @classmethod
    def updated(cls, ids: Sequence[str], new: SampleTable) -> tuple[StoredTable, NDArray[np.int64]]:
        """A dataset after a change, and int64 (len(new),) the store row of each new sample.

        Known ids keep their row, new ones are appended in their order, and rows of removed ones stay blank.

        Args:
            ids: The sample id of each store row before.
            new: The dataset as it is now.
        """
        row_of = {name: row for row, name in enumerate(ids)}
        for name in new.sample_ids:
            row_of.setdefault(name, len(row_of))
        rows = np.array([row_of[name] for name in new.sample_ids], dtype=np.int64)
        present = np.zeros(len(row_of), dtype=bool)
        present[rows] = True
        return cls(_spread(new, rows, tuple(row_of)), present), rows


def write_table(storage: Storage, path: str, stored: StoredTable) -> None:
    """Write the arrays and attributes of one revision; a revision that was begun before is completed."""
    for name, values in _to_arrays(stored).items():
        storage.put_array(f"{path}/{name}", values, _dimensions(name))
    storage.set_attributes(path, _to_attributes(stored))


def read_table(storage: Storage, path: str) -> StoredTable:
    """Read one revision and compare it with the digest in its name.

    Raises:
        CorruptStoreError: Anything in it is damaged.
    """
    what = "the sample table is damaged"
    try:
        attributes = storage.attributes(path) or {}
        arrays = {name: storage.get_array(f"{path}/{name}") for name in _names(attributes)}
        intact = arrays_digest(arrays, attributes)[:16] == path.rpartition("/")[2]
    except CorruptStoreError as error:
        raise _damaged(f"{what}: {error.what}", error.where) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(what, storage.where(path)) from error
    if not intact:
        raise _damaged(what, storage.where(path))
    return _from_arrays(arrays, attributes)


def _damaged(what: str, where: str) -> CorruptStoreError:
    hint = "Extract the dataset again, which writes the table anew: skyprobe extract."
    return CorruptStoreError(what, where=where, hint=hint)


def arrays_digest(arrays: Arrays, attributes: Mapping[str, Any]) -> str:
    """SHA-256 over attributes and arrays with their names, types and shapes, 64 hexadecimal digits."""
    sha = hashlib.sha256(canonical_json(attributes).encode())
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        sha.update(f"\0{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        sha.update(values.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def _spread(new: SampleTable, rows: NDArray[np.int64], ids: Sequence[str]) -> SampleTable:
    """The table over all store rows; `rows` are those of the new table."""

    def column(values: NDArray[Any], blank: object) -> NDArray[Any]:
        out = np.full((len(ids), *values.shape[1:]), blank, dtype=values.dtype)
        out[rows] = values
        return out

    boxes = new.boxes
    return replace(
        new,
        sample_ids=ids,
        labels={scheme: column(labels, UNLABELLED) for scheme, labels in new.labels.items()},
        splits=column(new.splits, ""),
        fingerprints=column(new.fingerprints, 0),
        groups=None if new.groups is None else column(new.groups, ""),
        sky=None if new.sky is None else column(new.sky, np.nan),
        boxes=None if boxes is None else replace(boxes, row=rows[boxes.row]),
    )


def _to_arrays(stored: StoredTable) -> dict[str, NDArray[Any]]:
    table = stored.table
    arrays: dict[str, NDArray[Any]] = {
        "sample_id": encode_text(table.sample_ids),
        "split": encode_text(table.splits.tolist()),
        "stamp": table.fingerprints.astype("<u8"),
        "present": stored.present,
    }
    for scheme, labels in table.labels.items():
        arrays[f"label/{escape(scheme)}"] = labels.astype("<i8")
    if table.groups is not None:
        arrays["group"] = encode_text(table.groups.tolist())
    if table.sky is not None:
        arrays["sky"] = table.sky.astype("<f8")
    if table.boxes is not None:
        arrays["box/row"] = table.boxes.row.astype("<i8")
        arrays["box/xyxy"] = table.boxes.xyxy.astype("<f4")
        arrays["box/label"] = table.boxes.label.astype("<i8")
        arrays["box/crowd"] = table.boxes.crowd.astype(bool)
    return arrays


def _to_attributes(stored: StoredTable) -> dict[str, Any]:
    table = stored.table
    return {
        **({"sky": True} if table.sky is not None else {}),  # tables are older than this attribute
        "name": table.name,
        "schemes": list(table.schemes),
        "classes": {scheme: list(table.classes[scheme]) for scheme in table.schemes},
        "groups": table.groups is not None,
        "boxes": table.boxes is not None,
        "box_classes": list(table.box_classes),
        "source": table.source,
        "notice": table.notice,
    }


def _names(attributes: Mapping[str, Any]) -> list[str]:
    """Arrays of a revision with these attributes."""
    names = ["sample_id", "split", "stamp", "present"]
    names += [f"label/{escape(scheme)}" for scheme in attributes["schemes"]]
    names += ["group"] if attributes["groups"] else []
    names += ["sky"] if attributes.get("sky") else []
    return names + (list(_DIMENSIONS) if attributes["boxes"] else [])


def _dimensions(name: str) -> tuple[str, ...]:
    if name == "sky":
        return ("sample", "angle")
    return ("sample", f"{name}_byte") if name in _TEXT else _DIMENSIONS.get(name, ("sample",))


def _from_arrays(arrays: Arrays, attributes: Mapping[str, Any]) -> StoredTable:
    boxes = [arrays[f"box/{part}"] for part in ("row", "xyxy", "label", "crowd")] if attributes["boxes"] else None
    table = SampleTable(
        name=attributes["name"],
        sample_ids=tuple(decode_text(arrays["sample_id"])),
        labels={scheme: arrays[f"label/{escape(scheme)}"] for scheme in attributes["schemes"]},
        classes={scheme: tuple(classes) for scheme, classes in attributes["classes"].items()},
        splits=np.array(decode_text(arrays["split"]), dtype=np.str_),
        fingerprints=arrays["stamp"],
        groups=np.array(decode_text(arrays["group"]), dtype=np.str_) if attributes["groups"] else None,
        sky=arrays["sky"] if attributes.get("sky") else None,
        boxes=None if boxes is None else Boxes(*boxes),
        box_classes=tuple(attributes["box_classes"]),
        source=attributes["source"],
        notice=attributes["notice"],
    )
    return StoredTable(table, arrays["present"])
