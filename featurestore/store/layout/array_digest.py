"""One digest over arrays and attributes: what decides whether a cached entry, or a table of format 1, is intact."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.store.key import canonical_json

Arrays = Mapping[str, NDArray[Any]]


def arrays_digest(arrays: Arrays, attributes: Mapping[str, Any]) -> str:
    """SHA-256 over attributes and arrays with their names, types and shapes, 64 hexadecimal digits."""
    sha = hashlib.sha256(canonical_json(attributes).encode())
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        sha.update(f"\0{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        sha.update(values.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()
