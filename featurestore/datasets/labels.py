"""The one rule for labels, groups and splits, whatever file they come from."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.label_mapping import map_labels
from featurestore.samples import UNLABELLED, join_notices

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validation": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
"""How splits are called outside -> their name in a sample table."""

MISSING = (
    "nan", "-nan", "na", "n/a", "<na>", "nat", "none", "null", "--", "-1", r"\n",
    "#n/a", "#na", "#n/a n/a", "#null!", "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind",
)  # fmt: skip
"""What tools write where a value is missing, in lower case; `np.nan`, R, pandas, astropy, databases, spreadsheets."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)


class Encoded(NamedTuple):
    """One label scheme.

    Attributes:
        labels: int64 (n,), indices into `classes`, or `UNLABELLED`.
        classes: Class names.
        missing: What stood in place of a label -> number of rows; the empty text stands for nothing at all.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    missing: Counter[str]


def normalise_split(value: object) -> str:
    """The split's name in a sample table, empty for a missing one; an unknown one as it is, for the table to refuse."""
    text = as_text(value) or ""
    return "" if is_missing(text) else SPLIT_NAMES.get(text.lower(), text)


def as_sequence(value: str | Sequence[str]) -> Sequence[str]:
    """One text or several, as several."""
    return (value,) if isinstance(value, str) else value


def as_text(value: object) -> str | None:
    """The value as text; None for what is empty, null, masked or NaN. Whole floats lose their zero."""
    if value is None or value is np.ma.masked:
        return None
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, float):
        if np.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    return str(value).strip() or None


def list_values(column: Any) -> list[Any]:
    """Values of a column of numpy, astropy or Arrow; a number of 32 bits as people wrote it: 0.1, not 0.10000000149."""
    if str(getattr(column, "type", "")) in ("float", "halffloat"):  # as Arrow calls them
        column = column.to_numpy()
    kind = getattr(column, "dtype", None)
    if kind is None:
        return list(column.to_pylist())
    if kind.kind == "f" and kind.itemsize < 8 and column.ndim == 1:
        return [None if one is np.ma.masked else float(str(one)) for one in column]
    return list(column.tolist())


def is_missing(text: str | None, keep: str | Sequence[str] = ()) -> bool:
    """Whether a text says that there is no value: empty, or one of `MISSING` in any case; `keep` are texts that do not.

    Numbers are compared as numbers: ``-1.0`` is missing too.
    """
    if not text:
        return True
    plain = _tidy(text)
    return plain.lower() in MISSING and not {text, plain} & set(as_sequence(keep))


def unify(values: Iterable[object], keep: str | Sequence[str] = ()) -> list[str | None]:
    """Names of classes or groups: None for missing ones, one name for numbers that are equal (``1``, ``1.0``, ``01``).

    Args:
        values: What was read, one value a row.
        keep: Texts that are names, although they look like missing values.
    """
    texts = [as_text(value) for value in values]
    written = defaultdict[str | Decimal, set[str]](set)
    for text in {text for text in texts if text is not None and not is_missing(text, keep)}:
        written[_value(text)].add(text)
    names = {
        text: min(map(_tidy, alike), key=lambda name: (len(name), name)) for alike in written.values() for text in alike
    }
    return [names.get(text) if text is not None else None for text in texts]


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """The different names: numbers by value and before words."""
    return tuple(sorted(set(names), key=_order))


def encode_labels(values: Sequence[object], keep: str | Sequence[str] = ()) -> Encoded:
    """Class names, one a row, to labels; see `unify` for what is a name, `sort_classes` for their order."""
    names = unify(values, keep)
    classes = sort_classes(name for name in names if name is not None)
    index: dict[str | None, int] = {name: label for label, name in enumerate(classes)}
    labels = np.array([index.get(name, UNLABELLED) for name in names], dtype=np.int64)
    missing = Counter(as_text(value) or "" for value, name in zip(values, names, strict=True) if name is None)
    return Encoded(labels, classes, missing)


def encode_indices(indices: Sequence[int | None], classes: Sequence[str], keep: str | Sequence[str] = ()) -> Encoded:
    """Labels that index named classes already; classes whose names say that there is no label are left out.

    Args:
        indices: One a row; None or -1 for a row without a label. What lies outside stays, for the table to refuse.
        classes: Class names, whose order is kept.
        keep: See `unify`.
    """
    labels = np.array([UNLABELLED if index is None else index for index in indices], dtype=np.int64)
    missing = Counter({"": int((labels == UNLABELLED).sum())})
    kept = tuple(name for name in classes if not is_missing(name, keep))
    if len(kept) < len(classes) and len(labels) and labels.min() >= UNLABELLED and labels.max() < len(classes):
        missing.update(classes[label] for label in labels if label != UNLABELLED and classes[label] not in kept)
        labels = map_labels(labels, classes, kept)
        return Encoded(labels, kept, +missing)
    return Encoded(labels, tuple(classes), +missing)


def scheme_fields(schemes: Mapping[str, Encoded]) -> dict[str, Any]:
    """The fields ``labels``, ``classes`` and ``notice`` of a sample table; the notice counts rows without a label."""
    return {
        "labels": {name: one.labels for name, one in schemes.items()},
        "classes": {name: one.classes for name, one in schemes.items()},
        "notice": join_notices(*(_describe(name, one) for name, one in schemes.items())),
    }


def encode_groups(values: Sequence[object], keep: str | Sequence[str] = ()) -> tuple[NDArray[np.str_], str]:
    """Groups, str (n,), empty for a row that belongs to none; and a notice of how many those are."""
    names = unify(values, keep)
    lost = Counter(as_text(value) or "" for value, name in zip(values, names, strict=True) if name is None)
    notice = f"group: {lost.total():,} of {len(names):,} samples belong to no group ({_list(lost)})." if lost else ""
    return np.array([name or "" for name in names], dtype=np.str_), notice


def _describe(scheme: str, encoded: Encoded) -> str:
    missing = encoded.missing
    if not missing:
        return ""
    text = f"{scheme}: {missing.total():,} of {len(encoded.labels):,} samples have no label ({_list(missing)})."
    written = "+".join(name for name in missing if name)
    return f"{text} Where that is the name of a class, end DATA by ,keep={written}" if written else text


def _list(missing: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name or 'empty'}" for name, count in sorted(missing.items()))


def _value(text: str) -> str | Decimal:
    """What a text is compared by: its number, if it is one."""
    return Decimal(text) if _NUMBER.fullmatch(text) else text


def _tidy(text: str) -> str:
    """A number without the plus and the decimal zeros that tools add; any other text as it is."""
    if not _NUMBER.fullmatch(text):
        return text
    text = text.removeprefix("+")
    if "." not in text or "e" in text.lower():
        return text
    whole, _, part = text.partition(".")
    part = part.rstrip("0")
    return f"{whole}.{part}" if part else whole if whole.strip("-") else f"{whole}0"


def _order(name: str) -> tuple[bool, Decimal, str]:
    value = _value(name)
    return (True, Decimal(0), name) if isinstance(value, str) else (False, value, name)
