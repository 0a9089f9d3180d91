"""Relabelling: a label scheme made of another one, class by class, without touching images or features.

A mapping file says which class becomes which; see `read_relabelling`. Wherever a label scheme is asked for, such a
file may be given in its place; see `scheme_name` and `choose_labels`.
"""

from __future__ import annotations

import csv
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UnknownNameError, UsageError
from featurestore.registry import unknown_name
from featurestore.samples import UNLABELLED, SampleTable, join_notices

SUFFIXES = (".toml", ".csv")
"""Endings of mapping files."""

_KEYS = ("base", "name", "classes")


@dataclass(frozen=True)
class Relabelling:
    """What a mapping file says.

    Attributes:
        name: Name of the new label scheme.
        base: Label scheme that it is made of; None: the default of the dataset.
        classes: Old class name -> new one; the empty name leaves its samples unlabelled, as does being left out.
        source: Where it comes from, for messages.
    """

    name: str
    base: str | None
    classes: Mapping[str, str]
    source: str = "relabelling"

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("the new label scheme has no name", where=self.source, hint="Name it.")
        if not self.new_classes:
            raise UsageError(
                "the mapping gives no class a new name", where=self.source, hint="Write OLD = NEW for some classes."
            )

    @property
    def new_classes(self) -> tuple[str, ...]:
        """Names of the new classes, in the order in which the mapping first names them."""
        return tuple(dict.fromkeys(name for name in self.classes.values() if name))


def map_labels(labels: NDArray[np.int64], names: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Labels of one scheme to labels of another.

    Args:
        labels: int64 (n,), each one an index into `names`, or `UNLABELLED`.
        names: For each old class, the name of its new one; a name that is not in `classes` means unlabelled.
        classes: Names of the new classes.

    Returns:
        int64 (n,), each one an index into `classes`, or `UNLABELLED`.
    """
    index = {name: label for label, name in enumerate(classes)}
    # The extra last entry is the one that UNLABELLED (-1) picks.
    return np.array([*(index.get(name, UNLABELLED) for name in names), UNLABELLED], dtype=np.int64)[labels]


def relabel(table: SampleTable, relabelling: Relabelling) -> SampleTable:
    """The table with the new label scheme besides its own; its notice says which classes became unlabelled.

    Raises:
        UnknownNameError: The table has no such base scheme, or that scheme no such class.
        UsageError: The table has a scheme of the new name already.
        LabelMismatchError: The table has no labels at all.
    """
    base = table.scheme(relabelling.base)
    if relabelling.name in table.schemes:
        raise UsageError(
            f"the dataset has a label scheme {relabelling.name!r} already",
            where=relabelling.source,
            hint="Give the new scheme another name.",
        )
    old, new = table.classes[base], relabelling.new_classes
    _check_known(relabelling.classes, old, f"class of the label scheme {base}", relabelling.source)
    labels = map_labels(table.labels[base], [relabelling.classes.get(name, "") for name in old], new)
    return replace(
        table,
        labels={**table.labels, relabelling.name: labels},
        classes={**table.classes, relabelling.name: new},
        notice=join_notices(table.notice, _describe(table, relabelling)),
    )


def scheme_name(labels: str | None) -> str | None:
    """The label scheme that a user chose by its name, or by a mapping file; None stays None.

    Raises:
        SkyprobeError: See `read_relabelling`.
    """
    relabelling = _find_relabelling(labels)
    return relabelling.name if relabelling else labels


def is_mapping(labels: str) -> bool:
    """Whether labels are named by a mapping file, and not as a scheme of the dataset."""
    return labels.lower().endswith(SUFFIXES)


def choose_labels(table: SampleTable, labels: str | None) -> SampleTable:
    """The table, with the scheme `scheme_name(labels)` added if `labels` is a mapping file.

    Raises:
        SkyprobeError: See `read_relabelling` and `relabel`.
    """
    relabelling = _find_relabelling(labels)
    return relabel(table, relabelling) if relabelling else table


def fits_labels(table: SampleTable, labels: str) -> bool:
    """Whether a table has this label scheme, or a mapping file can relabel it.

    Raises:
        SkyprobeError: See `read_relabelling`.
    """
    relabelling = _find_relabelling(labels)
    if relabelling is None:
        return labels in table.schemes
    base = relabelling.base or next(iter(table.schemes), "")
    return base in table.schemes and set(relabelling.classes) <= set(table.classes[base])


def describe_labels(table: SampleTable, labels: str | None) -> str:
    """One sentence on the classes of a table that a mapping file leaves unlabelled; empty if there are none.

    Raises:
        SkyprobeError: See `read_relabelling`.
    """
    relabelling = _find_relabelling(labels)
    return _describe(table, relabelling) if relabelling else ""


def _find_relabelling(labels: str | None) -> Relabelling | None:
    """What the mapping file says, if it is one by its name."""
    return read_relabelling(Path(labels)) if labels and is_mapping(labels) else None


def _describe(table: SampleTable, relabelling: Relabelling) -> str:
    base = table.scheme(relabelling.base)
    counts = Counter(table.labels[base].tolist())
    lost = ", ".join(
        f"{name} ({counts[label]:,})"
        for label, name in enumerate(table.classes[base])
        if not relabelling.classes.get(name)
    )
    return lost and f"{table.name}, labels {relabelling.name}: unlabelled are the samples of {base} {lost}."


def read_relabelling(path: Path) -> Relabelling:
    """Read a mapping file.

    TOML: a table ``classes`` of ``OLD = "NEW"``; optionally ``base``, the label scheme that is relabelled (by default
    the first one of the dataset), and ``name``, that of the new one (by default that of the file).

    CSV: the first line is the name of the base scheme (or nothing, for the default) and that of the new one; each
    other line is an old class and its new one.

    An empty new name, or a class left out, means unlabelled.

    Raises:
        UsageError: The file cannot be read, or says something else.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, RuntimeError) as error:  # also ~NAME without such a user
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot read the mapping: {reason}", where=path, hint="Give a label scheme, or a mapping file."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError("the mapping is not UTF-8 text", where=path, hint="Save it as UTF-8.") from error
    return _parse_csv(text, path) if path.suffix.lower() == ".csv" else _parse_toml(text, path)


def _parse_toml(text: str, path: Path) -> Relabelling:
    try:
        given = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"the mapping is not TOML: {error}", where=path, hint="Correct that line.") from error
    _check_known(given, _KEYS, "key", str(path))
    classes = given.get("classes", {})
    values: list[Any] = [given.get("base", ""), given.get("name", "")]
    values += classes.values() if isinstance(classes, dict) else [classes]
    for value in values:
        if not isinstance(value, str):
            raise UsageError(f"{value!r} is not text", where=path, hint='Write [classes], and below it OLD = "NEW".')
    return Relabelling(given.get("name", path.stem), given.get("base"), classes, str(path))


def _parse_csv(text: str, path: Path) -> Relabelling:
    try:
        lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines()) if line]
    except csv.Error as error:
        raise UsageError(f"the mapping is not CSV: {error}", where=path, hint="Correct that line.") from error
    for number, line in enumerate(lines, start=1):
        if len(line) != 2:
            raise UsageError(
                f"line {number} has {len(line)} columns", where=path, hint="Write an old class and its new one a line."
            )
    (base, name), *pairs = lines or [["", ""]]
    twice = sorted(old for old, count in Counter(old for old, _ in pairs).items() if count > 1)
    if twice:
        raise UsageError(f"classes occur more than once: {', '.join(twice)}", where=path, hint="Keep one line of each.")
    return Relabelling(name or path.stem, base or None, dict(pairs), str(path))


def _check_known(names: Iterable[str], known: Sequence[str], noun: str, where: str) -> None:
    for name in names:
        if name not in known:
            error = unknown_name(noun, name, known)
            raise UnknownNameError(error.what, where=where, hint=error.hint)
