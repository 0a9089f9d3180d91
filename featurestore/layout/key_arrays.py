"""KeyArrays: the arrays below one key of a store, and what they look like."""

from __future__ import annotations

from collections.abc import Mapping

from featurestore.layout.blocked_array import BlockedArray
from featurestore.layout.storage import Storage

MISSING, DONE, UNREADABLE = 0, 1, 2
"""State of a row in one pooling."""

CONTENT_BYTES = 16
REASON_BYTES = 160

_COLUMNS: dict[str, tuple[str, int | None]] = {
    "content": ("uint8", CONTENT_BYTES),
    "stamp": ("uint64", None),
    "sample_hash": ("uint64", None),
    "reason": ("uint8", REASON_BYTES),
}
"""Arrays that all poolings of a key share: dtype, and bytes of a row for those that have two dimensions."""

COLUMNS = tuple(_COLUMNS)


class KeyArrays:
    """Arrays of one group ``features/DATASET/VARIANT/BACKBONE/KEY12``, opened when first used.

    Args:
        storage: Where they stand.
        path: Path of the group.
    """

    def __init__(self, storage: Storage, path: str) -> None:
        self.storage = storage
        self.path = path
        self._opened: dict[str, BlockedArray] = {}

    def values(self, pooling: str) -> BlockedArray:
        """(n, d) values, NaN where a row is not done."""
        return self._open(f"{pooling}/values")

    def state(self, pooling: str) -> BlockedArray:
        """uint8 (n,) states."""
        return self._open(f"{pooling}/state")

    def column(self, name: str) -> BlockedArray:
        """One of `COLUMNS`."""
        return self._open(name)

    def all(self, poolings: Mapping[str, int]) -> list[BlockedArray]:
        """All arrays; states come first."""
        states, values = [self.state(name) for name in poolings], [self.values(name) for name in poolings]
        return states + [self.column(name) for name in COLUMNS] + values

    def create(self, widths: Mapping[str, int], dtype: str, rows: int, block_rows: int) -> None:
        """Make what does not exist yet, and room for `rows` rows; states, which vouch for the others, come last."""
        for name, (kind, width) in _COLUMNS.items():
            self._require(name, kind, rows, block_rows, width, f"{name}_byte")
        for pooling, width in widths.items():
            self._require(f"{pooling}/values", dtype, rows, block_rows, width, "feature", fill_value=float("nan"))
            self._require(f"{pooling}/state", "uint8", rows, block_rows)

    def _require(
        self,
        name: str,
        dtype: str,
        rows: int,
        block_rows: int,
        width: int | None = None,
        dimension: str = "",
        fill_value: float = 0,
    ) -> None:
        tail = () if width is None else (width,)
        names = ("sample",) if width is None else ("sample", dimension)
        path, chunks = f"{self.path}/{name}", (block_rows, *tail)
        self.storage.require_array(path, (rows, *tail), dtype, chunks, names, fill_value)
        self._open(name).grow(rows)

    def _open(self, name: str) -> BlockedArray:
        if name not in self._opened:
            self._opened[name] = BlockedArray(self.storage, f"{self.path}/{name}")
        return self._opened[name]
