"""Pieces: what a dataset is now, in the order in which its samples came, gathered again in the order of the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.store.table.columns import TEXT, ColumnType
from featurestore.store.table.samples import BOXES, HASH, ID, Arrays

_ROWS = "store row"


class Pieces:
    """Columns of samples, and the store row of each.

    Args:
        folder: Where they wait on disk; None keeps them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._pieces: list[tuple[int, int, Mapping[str, NDArray[Any] | Path]]] = []

    def append(self, columns: Arrays, rows: NDArray[np.int64]) -> None:
        """Add some samples; rows of boxes are positions among them."""
        if not len(rows):
            return
        own = dict(columns) | {_ROWS: rows}
        if "box/row" in own:
            own["box/row"] = rows[own["box/row"]]
        number = len(self._pieces)
        self._pieces.append(
            (int(rows.min()), int(rows.max()) + 1, {n: self._put(number, n, v) for n, v in own.items()})
        )

    def rows(self) -> NDArray[np.int64]:
        """int64 (n,): the store row of each sample, in the order in which they came."""
        rows = np.empty(sum(len(_get(piece[_ROWS])) for _, _, piece in self._pieces), dtype=np.int64)
        filled = 0
        for _, _, piece in self._pieces:  # one of them is mapped at a time
            part = _get(piece[_ROWS])
            rows[filled : filled + len(part)] = part
            filled += len(part)
        return rows

    def gather(self, name: str, kind: ColumnType, span: range, kept: NDArray[Any] | None) -> NDArray[Any]:
        """A column of the store rows of `span`.

        Args:
            name: The column.
            kind: What it holds.
            span: Store rows.
            kept: What the first of these rows have where no sample of a piece is in them; blank for None.
        """
        found = [(rows, _get(piece[name])[inside]) for rows, inside, piece in self._inside(span)]
        widths = [values.dtype.itemsize for _, values in found] + ([] if kept is None else [kept.dtype.itemsize])
        out = kind.blanks(len(span), max(widths, default=1) if kind.dtype == TEXT else 1)
        if kept is not None:
            out[: len(kept)] = kept
        for rows, values in found:
            out[rows] = values
        return out

    def gather_boxes(self, span: range) -> dict[str, NDArray[Any]]:
        """The boxes of the samples in these store rows, ordered by row."""
        parts = []
        for low, high, piece in self._pieces:
            if low < span.stop and high > span.start:
                row = _get(piece["box/row"])
                own = np.flatnonzero((row >= span.start) & (row < span.stop))
                parts.append({name: _get(piece[name])[own] for name in BOXES})
        if not parts:
            return {name: kind.blanks(0) for name, kind in BOXES.items()}
        boxes = {name: np.concatenate([part[name] for part in parts]) for name in BOXES}
        order = np.argsort(boxes["box/row"], kind="stable")
        return {name: values[order] for name, values in boxes.items()}

    def names_of(self, hashes: NDArray[np.uint64], limit: int = 5) -> list[str]:
        """Sample ids with these hashes."""
        names: list[str] = []
        for _, _, piece in self._pieces:
            own = np.flatnonzero(np.isin(_get(piece[HASH]), hashes))[:limit]
            names += [name.decode() for name in _get(piece[ID])[own].tolist()]
        return sorted(set(names))[:limit]

    def _inside(self, span: range) -> Iterator[tuple[Any, Any, Mapping[str, NDArray[Any] | Path]]]:
        """For each piece with rows of `span`: their places in it, which of the piece they are, and the piece."""
        for low, high, piece in self._pieces:
            if low >= span.stop or high <= span.start:
                continue
            rows = _get(piece[_ROWS])
            if high - low == len(rows) and rows[0] == low and rows[-1] == high - 1 and (np.diff(rows) == 1).all():
                first, last = max(low, span.start), min(high, span.stop)
                yield slice(first - span.start, last - span.start), slice(first - low, last - low), piece
            else:
                inside = np.flatnonzero((rows >= span.start) & (rows < span.stop))
                yield rows[inside] - span.start, inside, piece

    def _put(self, number: int, name: str, values: NDArray[Any]) -> NDArray[Any] | Path:
        if self._folder is None:
            return values
        path = self._folder / f"{number}-{name.replace('/', ' ')}.npy"
        np.save(path, values)
        return path


def _get(values: NDArray[Any] | Path) -> NDArray[Any]:
    return np.load(values, mmap_mode="r") if isinstance(values, Path) else values
