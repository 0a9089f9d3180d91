"""Sample tables of format 1, which are only read: a revision is a group, and a column is an array of one chunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptStoreError
from featurestore.samples import hash_ids
from featurestore.store.layout.array_digest import arrays_digest
from featurestore.store.layout.storage import Storage
from featurestore.store.layout.text import decode_text
from featurestore.store.table.columns import TEXT
from featurestore.store.table.revisions import damaged
from featurestore.store.table.samples import HASH, ID, box_types, sample_types
from featurestore.store.table.stored_table import StoredTable


def read_table(storage: Storage, path: str) -> StoredTable:
    """Read one revision and compare it with the digest in its name.

    Raises:
        CorruptStoreError: Anything in it is damaged.
    """
    try:
        about = storage.attributes(path) or {}
        types = {name: kind for name, kind in (sample_types(about) | box_types(about)).items() if name != HASH}
        arrays = {name: storage.get_array(f"{path}/{name}") for name in types}
        intact = arrays_digest(arrays, about)[:16] == path.rpartition("/")[2]
    except CorruptStoreError as error:
        raise damaged(error.where, error.what) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(storage.where(path)) from error
    if not intact:
        raise damaged(storage.where(path))
    columns = {name: as_text(values) if types[name].dtype == TEXT else values for name, values in arrays.items()}
    columns[HASH] = hash_ids(decode_text(arrays[ID]))
    return StoredTable.of_arrays(_with_sky(about), columns)


def as_text(matrix: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Strings of a column of text."""
    return np.ascontiguousarray(matrix).view(f"S{matrix.shape[1]}").reshape(len(matrix))


def _with_sky(about: Mapping[str, Any]) -> dict[str, Any]:
    return {**about, "sky": bool(about.get("sky"))}
