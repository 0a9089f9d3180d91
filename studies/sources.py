"""Where datasets come from: whenever a command names one, its samples are read afresh, and no label is an old one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets import open_dataset
from featurestore.datasets.naming import split_options, with_options
from featurestore.datasets.opening import source_of
from featurestore.errors import MissingDependencyError, SkyprobeError
from featurestore.store.query import leads_to

if TYPE_CHECKING:
    from featurestore.reporter import Reporter
    from featurestore.samples import SampleTable
    from featurestore.store import FeatureStore


def find_dataset(store: FeatureStore, text: str) -> str:
    """Name in the store of a dataset as the user typed it: a stored name, or a path or shortcut, there or gone.

    Raises:
        SkyprobeError: It is neither stored nor there; see `featurestore.datasets.open_dataset`.
    """
    plain, names = split_options(text)[0], store.datasets()
    if plain in names:
        return plain
    found = [name for name in names if leads_to(plain, split_options(store.source(name))[0])]
    return found[0] if len(found) == 1 else open_dataset(text).table.name


def refresh(store: FeatureStore, text: str, reporter: Reporter) -> str:
    """Read the samples of a dataset afresh: ids, labels, splits, groups, positions; its name in the store.

    The store has them afterwards; one that is read-only has them as long as it is open. A dataset that the store does
    not know is left to the caller.

    Args:
        store: Where the dataset is known.
        text: What the user typed for it.
        reporter: Told what changed, and that a source is gone: then everything is as the store has it.

    Raises:
        SkyprobeError: The dataset is neither stored nor there, or a source that is there cannot be understood.
    """
    name = find_dataset(store, text)
    if name not in store.datasets() or not store.source(name):
        return name  # a table that was made in memory has no source
    before, source = store.dataset(name), _join_options(store.source(name), text)
    try:
        now = open_dataset(source).table
    except SkyprobeError as error:
        if _is_there(source) and not isinstance(error, MissingDependencyError):
            raise
        reporter.notice(
            f"{name}: labels and splits are those of its last extraction, for its source is gone: {error.what}"
        )
        return name
    if now.name != name:  # it was opened with options that its source does not tell
        reporter.notice(f"{name}: labels and splits are as they were stored under this name; they are not read afresh.")
        return name
    store.put_dataset(now)
    if changes := ", ".join(_changes(before, store.dataset(name))):
        reporter.notice(f"{name} changed since it was last read: {changes}. It is taken as it is now.")
    return name


def _changes(old: SampleTable, new: SampleTable) -> Iterator[str]:
    """What differs between two states of a dataset, in words."""
    gone, come = set(old.sample_ids) - set(new.sample_ids), set(new.sample_ids) - set(old.sample_ids)
    if gone or come:
        yield f"{len(come):,} new and {len(gone):,} removed images"
    old, new = (
        table.take(np.flatnonzero([name not in gone | come for name in table.sample_ids])) for table in (old, new)
    )
    yield from (f"labels ({name})" for name in old.schemes if _names(old, name) != _names(new, name))
    yield from (f"new labels ({name})" for name in new.schemes if name not in old.schemes)
    for column, name in (("splits", "splits"), ("groups", "groups"), ("sky", "positions")):
        if not _equal(getattr(old, column), getattr(new, column)):
            yield name
    if (old.boxes is None) != (new.boxes is None) or (
        old.boxes and new.boxes and not _equal(old.boxes.xyxy, new.boxes.xyxy)
    ):
        yield "boxes"


def _names(table: SampleTable, scheme: str) -> list[str] | None:
    """Class name of each row, empty without a label; None where there is no such scheme."""
    if scheme not in table.labels:
        return None
    names = np.array([*table.classes[scheme], ""], dtype=np.str_)
    return list(names[table.labels[scheme]].tolist())  # `UNLABELLED` is the last


def _equal(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _join_options(source: str, text: str) -> str:
    """A source with the options of columns that the user typed, or else its own; groups remain those of the source."""
    plain, own = split_options(source)
    typed = {option: value for option, value in split_options(text)[1].items() if option != "groups"}
    return with_options(plain, typed | {"groups": own.get("groups")}) if typed else source


def _is_there(source: str) -> bool:
    try:
        return bool(source_of(source))
    except SkyprobeError:
        return False
