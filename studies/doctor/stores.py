"""The store at a glance: metadata and sample tables are read, features are not, as `skyprobe verify` does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from featurestore.errors import SkyprobeError, StoreError
from featurestore.store import FeatureStore, default_store_path, open_store
from featurestore.store.repair.metadata import check_arrays
from featurestore.store.table.revisions import check_segments
from studies.doctor.downloads import existing_folder
from studies.doctor.finding import Finding, megabytes

_PART = "store"


def examine_store(path: str | None) -> Iterator[Finding]:
    """Whether the store opens, can be written, and has sound metadata and sample tables.

    Args:
        path: A folder or URL; the default store for None.
    """
    place = path or default_store_path()
    is_url, quoted = "://" in place, quote(place)
    if not is_url and not Path(place).expanduser().exists():
        hint = f"skyprobe extract DATA -b BACKBONE --store {quoted}"
        yield Finding(_PART, "note", f"{place}: there is none yet", hint)
        return
    try:
        store = open_store(place)
        damage = list(_find_damage(store))
        found = (
            f"{place}, datasets: {len(store.datasets())}, feature entries: {len(store.find())}" if not damage else ""
        )
    except SkyprobeError as error:
        yield Finding(_PART, "broken", f"{error.what} [{error.where}]", error.hint)
        return
    if damage:
        more = f", and {len(damage) - 1} more" if len(damage) > 1 else ""
        yield Finding(_PART, "broken", damage[0] + more, f"skyprobe verify --repair --store {quoted}")
    else:
        yield Finding(_PART, "ok", found, f"skyprobe verify --store {quoted} reads all of it")
    if not is_url:
        yield _space(Path(place).expanduser())


def _find_damage(store: FeatureStore) -> Iterator[str]:
    """What is wrong with sample tables, and with metadata of features."""
    for name in store.datasets():
        try:
            stored = store.tables.stored(name)
            check_segments(stored, stored.columns)
        except StoreError as error:
            yield f"{error.what} [{error.where}]"
    for path in store.key_paths():
        try:
            entry = store.open_entry(path)
            if entry is not None:
                rows = len(store.tables.stored(entry.dataset))
                for array, what, _ in check_arrays(store.storage, entry, rows, repair=False):
                    yield f"{what} [{entry.path}/{array}]"
        except StoreError as error:
            yield f"{error.what} [{error.where}]"


def _space(folder: Path) -> Finding:
    free = megabytes(shutil.disk_usage(existing_folder(folder)).free)
    if os.access(folder, os.W_OK):
        return Finding("space for features", "ok", f"{free} free")
    return Finding(
        "space for features",
        "note",
        f"{folder} cannot be written: features can be read only",
        f"chmod u+w {quote(str(folder))}",
    )
