"""Metadata of features, compared with their key, and written anew from it where it is damaged; chunks are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.errors import CorruptStoreError, StoreError
from featurestore.store.key import FeatureKey
from featurestore.store.layout.block_summary import WITHDRAWN
from featurestore.store.layout.key_arrays import CHECK, COLUMNS, array_specs, write_shapes
from featurestore.store.layout.storage import ArraySpec, Storage

if TYPE_CHECKING:
    from featurestore.store.entry import FeatureEntry

COPY = "stamp"
"""Array of a key whose attributes repeat those of its group, all but the requests."""

_CRC_BYTES = 4


def is_being_made(storage: Storage, path: str) -> bool:
    """Whether a group without a key is one that is being made or removed: no chunk is written before the key is."""
    try:
        attributes = storage.attributes(path) or {}
    except CorruptStoreError:
        return False
    return "removed" in attributes or not storage.has_chunks(path)


def recover_attributes(storage: Storage, path: str) -> dict[str, Any]:
    """What is known of a key whose group has lost its metadata: the copy, or else the poolings that lie there."""
    try:
        copy = storage.array_attributes(f"{path}/{COPY}")
        if FeatureKey.from_dict(copy["key"]).short == path.rpartition("/")[2]:
            return copy | {"requests": []}
    except (StoreError, KeyError, TypeError):
        pass
    return {"poolings": write_shapes(_stored_shapes(storage, path))}


def recover_group(storage: Storage, path: str) -> bool:
    """Write the group of a key anew from its copy; whether there was one."""
    attributes = recover_attributes(storage, path)
    if "key" not in attributes:
        return False
    storage.rewrite_group(path, attributes)
    return True


def _stored_shapes(storage: Storage, path: str) -> dict[str, tuple[int, ...]]:
    """Pooling -> shape of one sample's features, of the arrays that can be understood."""
    shapes = {}
    for name in storage.children(path):
        try:
            array = storage.array(f"{path}/{name}/values")
        except CorruptStoreError:
            continue
        if array is not None:
            shapes[name] = tuple(array.shape[1:])
    return shapes


def check_arrays(storage: Storage, entry: FeatureEntry, rows: int, *, repair: bool) -> Iterator[tuple[str, str, bool]]:
    """Hold type, shape and chunks of every array against the key.

    Args:
        storage: Where they are.
        entry: The features.
        rows: Rows that there is to be room for.
        repair: Whether wrong metadata is written anew, where the chunks are what the key says.

    Yields:
        Name of an array, what is wrong, and whether it is no longer.
    """
    specs = array_specs(entry.shapes, entry.key.dtype, entry.block_rows)
    for name, spec in specs.items():
        path = f"{entry.path}/{name}"
        what = _find_fault(storage, path, spec, optional=name.endswith(CHECK) and not entry.bound)
        if what:
            mended = repair and _chunks_fit(storage, path, spec)
            if mended:
                storage.rewrite_array(path, spec.shape(rows), spec)
            yield name, what, mended
    for name in storage.children(entry.path):
        if name not in {*COLUMNS, CHECK, WITHDRAWN, *entry.shapes}:
            yield name, "a pooling that the key does not name", False


def _find_fault(storage: Storage, path: str, spec: ArraySpec, *, optional: bool) -> str:
    try:
        found = storage.array(path)
        if found is None:
            return "" if optional else "an array is missing"
        return "" if storage.is_like(path, spec) else "type, shape or chunks are not those of the key and the store"
    except CorruptStoreError as error:
        return error.what


def _chunks_fit(storage: Storage, path: str, spec: ArraySpec) -> bool:
    """Whether a chunk is as large as it must be; true where there is none."""
    size = prod(spec.chunks) * np.dtype(spec.dtype).itemsize + _CRC_BYTES
    sizes: list[int] = []
    chunks = [f"{path}/c/{number}" + "/0" * (len(spec.chunks) - 1) for number in storage.children(f"{path}/c")[:1]]
    storage.read_files(chunks, size, lambda _, raw: sizes.append(-1 if raw is None else len(raw)))
    return all(found == size for found in sizes)


def copy_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What the copy repeats."""
    return {name: value for name, value in attributes.items() if name != "requests"}
