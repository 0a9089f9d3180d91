"""The cache: what was computed from features (projections, probe results), kept to be reused.

An entry is named by a digest of everything that decides it, and says where it was made. Whatever is incomplete, damaged
or in another place counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError, UsageError
from featurestore.store.layout.array_digest import arrays_digest
from featurestore.store.layout.names import escape, unescape
from featurestore.store.layout.storage import Storage


@dataclass(frozen=True)
class CacheEntry:
    """One entry.

    Attributes:
        arrays: Arrays by name.
        attributes: Whatever JSON can hold.
    """

    arrays: Mapping[str, NDArray[Any]]
    attributes: Mapping[str, Any]


def read_cached(storage: Storage, path: str) -> CacheEntry | None:
    """The entry at `path`; None if it is absent, incomplete or damaged."""
    try:
        record = storage.attributes(path) or {}
        if "sha256" not in record or record.get("place", path) != path:
            return None
        arrays = {name: storage.get_array(f"{path}/{escape(name)}") for name in record["arrays"]}
        attributes = dict(record["attributes"])
        intact = arrays_digest(arrays, attributes) == record["sha256"]
    except (CorruptStoreError, KeyError, TypeError, ValueError):
        return None
    return CacheEntry(arrays, attributes) if intact else None


def list_cached(storage: Storage, path: str) -> list[str]:
    """Sorted names of the complete entries below `path`; their arrays are not looked at."""
    return [unescape(name) for name in storage.children(path) if _is_complete(storage, f"{path}/{name}")]


def _is_absent(storage: Storage, path: str) -> bool:
    try:
        return storage.attributes(path) is None
    except CorruptStoreError:
        return False


def _is_complete(storage: Storage, path: str) -> bool:
    try:
        return "sha256" in (storage.attributes(path) or {})
    except CorruptStoreError:
        return False


def write_cached(
    storage: Storage, path: str, arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]
) -> None:
    """Write an entry; its digest, without which it counts as absent, comes last.

    Raises:
        UsageError: An array that is not of numbers or truth values.
    """
    for name, values in arrays.items():
        if values.dtype.kind not in "biuf":
            raise UsageError(
                f"the array {name!r} has the type {values.dtype}", where=path, hint="Put text into the attributes."
            )
    if not _is_absent(storage, path):
        storage.delete(path)
    plain = {name: np.asarray(values, dtype=values.dtype.newbyteorder("<")) for name, values in arrays.items()}
    for name, values in plain.items():
        dimensions = [f"{name}_{axis}" for axis in range(values.ndim)]
        storage.put_array(f"{path}/{escape(name)}", values, dimensions)
    record = {"arrays": list(plain), "attributes": dict(attributes), "sha256": arrays_digest(plain, attributes)}
    storage.set_attributes(path, record | {"place": path})
