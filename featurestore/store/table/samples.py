"""SampleTable <-> columns: which columns a table of samples has, and what its other attributes are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.samples import UNLABELLED, Boxes, SampleTable
from featurestore.store.layout.names import escape
from featurestore.store.table.columns import TEXT, ColumnType, decode, encode

Arrays = Mapping[str, NDArray[Any]]
"""Column -> its values."""

ID, HASH, PRESENT = "sample_id", "sample_hash", "present"
KEPT = (ID, HASH)
"""Columns of a row that stay when the dataset no longer has the sample."""

FAMILIES = ("box", "label")
"""First parts of names of columns that have two."""

BOXES: dict[str, ColumnType] = {
    "box/row": ColumnType("int64", dimensions=("box",)),
    "box/xyxy": ColumnType("float32", (4,), unit="pix", dimensions=("box", "edge")),
    "box/label": ColumnType("int64", dimensions=("box",)),
    "box/crowd": ColumnType("bool", dimensions=("box",)),
}
"""Columns with one value a box, in the order of the samples; a segment has the boxes of a segment of samples."""

_SAMPLES = {
    ID: ColumnType(TEXT, ucd="meta.id;meta.main"),
    HASH: ColumnType("uint64"),
    PRESENT: ColumnType("bool"),
    "split": ColumnType(TEXT),
    "stamp": ColumnType("uint64"),
}
_LABEL = ColumnType("int64", blank=UNLABELLED, ucd="src.class")
_GROUP = ColumnType(TEXT)
_SKY = ColumnType("float64", (2,), np.nan, "deg", "pos.eq", ("sample", "angle"))


def describe(table: SampleTable) -> dict[str, Any]:
    """What a revision says of a table beside its columns."""
    return {
        "name": table.name,
        "schemes": list(table.schemes),
        "classes": {scheme: list(table.classes[scheme]) for scheme in table.schemes},
        "groups": table.groups is not None,
        "sky": table.sky is not None,
        "boxes": table.boxes is not None,
        "box_classes": list(table.box_classes),
        "source": table.source,
        "notice": table.notice,
    }


def sample_types(about: Mapping[str, Any]) -> dict[str, ColumnType]:
    """Columns with one value a sample, of a table that is described so."""
    types = dict(_SAMPLES)
    types |= {f"label/{escape(scheme)}": _LABEL for scheme in about["schemes"]}
    types |= {"group": _GROUP} if about["groups"] else {}
    return types | ({"sky": _SKY} if about.get("sky") else {})


def box_types(about: Mapping[str, Any]) -> dict[str, ColumnType]:
    """Columns with one value a box; none in a table without boxes."""
    return BOXES if about["boxes"] else {}


def to_columns(table: SampleTable) -> dict[str, NDArray[Any]]:
    """The columns of a table all of whose samples are present; boxes as they stand there."""
    columns: dict[str, NDArray[Any]] = {
        ID: encode(table.sample_ids),
        HASH: table.id_hashes,
        PRESENT: np.ones(len(table), dtype=bool),
        "split": encode(table.splits.tolist()),
        "stamp": table.fingerprints.astype("<u8"),
    }
    columns |= {f"label/{escape(scheme)}": labels.astype("<i8") for scheme, labels in table.labels.items()}
    if table.groups is not None:
        columns["group"] = encode(table.groups.tolist())
    if table.sky is not None:
        columns["sky"] = table.sky.astype("<f8")
    if (boxes := table.boxes) is not None:
        parts = (boxes.row.astype("<i8"), boxes.xyxy.astype("<f4"), boxes.label.astype("<i8"), boxes.crowd.astype(bool))
        columns |= dict(zip(BOXES, parts, strict=True))
    return columns


def to_table(about: Mapping[str, Any], columns: Arrays) -> SampleTable:
    """The table that `describe` and `to_columns` were made from."""
    return SampleTable(
        name=about["name"],
        sample_ids=tuple(decode(columns[ID])),
        labels={scheme: columns[f"label/{escape(scheme)}"] for scheme in about["schemes"]},
        classes={scheme: tuple(classes) for scheme, classes in about["classes"].items()},
        splits=np.array(decode(columns["split"]), dtype=np.str_),
        fingerprints=columns["stamp"],
        groups=np.array(decode(columns["group"]), dtype=np.str_) if about["groups"] else None,
        sky=columns["sky"] if about.get("sky") else None,
        boxes=Boxes(*(columns[name] for name in BOXES)) if about["boxes"] else None,
        box_classes=tuple(about["box_classes"]),
        source=about["source"],
        notice=about["notice"],
    )
