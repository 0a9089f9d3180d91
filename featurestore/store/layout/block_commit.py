"""Committing one block: states are withdrawn first and given back last, so that a kill at any instant does no harm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import BackboneError, StorageOverflowError, StorageUnderflowError, StoreError
from featurestore.store.layout.block_summary import may_be_summarised, withdraw
from featurestore.store.layout.key_arrays import DONE, MISSING, REASON_BYTES, UNREADABLE, KeyArrays, Shapes
from featurestore.store.layout.row_checks import compute_checks
from featurestore.store.layout.text import encode_text

Rows = NDArray[np.int64]
States = dict[str, NDArray[np.uint8]]
_Update = tuple[NDArray[Any] | None, NDArray[Any]]
"""A column of a block before, None if it was never written, and after."""


class Samples(Protocol):
    """What a commit has to know of a dataset; hashes of a block are all that is read of it."""

    def __len__(self) -> int: ...

    def hashes(self, rows: Rows) -> NDArray[np.uint64]:
        """Hash of the sample id of some ascending store rows."""
        ...

    def ids(self, rows: Rows) -> Sequence[str]:
        """The sample id of some ascending store rows."""
        ...


@dataclass(frozen=True)
class Block:
    """What was computed for the rows of one block; r may be less than the block has.

    Attributes:
        values: Pooling -> float32 (r, d), or (r, h, w, D) of dense features; only rows whose state is done are looked
            at.
        state: uint8 (r,): done or unreadable; rows that are missing here keep what the store has.
        content: uint8 (r, 16), digest of each image.
        fingerprints: uint64 (r,), fingerprint of each image.
        reasons: Row of the block -> why it is unreadable; cut to 160 bytes.
        sample_hashes: uint64 (r,), hash of the sample id of each row, as whoever computed it knows it (see
            `featurestore.samples.hash_ids`): two extractions may have put different tables.
    """

    values: Mapping[str, NDArray[np.float32]]
    state: NDArray[np.uint8]
    content: NDArray[np.uint8]
    fingerprints: NDArray[np.uint64]
    reasons: Mapping[int, str] = field(default_factory=dict)
    sample_hashes: NDArray[np.uint64] = field(kw_only=True)


UNDERFLOW_ERROR = 0.01
"""A value is lost to underflow where storing it changes it by more than this part of itself."""

UNDERFLOW_SHARE = 0.1
"""This share of the values of a sample that are not zero may be lost: a few tiny ones beside large ones do no harm."""


class BlockCommit:
    """One block on its way into the store.

    Args:
        arrays: The arrays of the key.
        shapes: All poolings of the key.
        stored: The dataset, which knows the sample of each row.
        block: Number of the block.
        data: What was computed.
    """

    def __init__(self, arrays: KeyArrays, shapes: Shapes, stored: Samples, block: int, data: Block) -> None:
        self._arrays, self._shapes, self._stored, self._block, self._data = arrays, shapes, stored, block, data
        self._where = f"{arrays.storage.where(arrays.path)}, block {block}"
        self._given: Rows = np.flatnonzero(data.state != MISSING)
        self._done: Rows = np.flatnonzero(data.state == DONE)
        self._start = block * arrays.block_rows
        self._rows: Rows = self._start + self._given
        self._check_place()
        self._check_samples()

    def write(self, dtype: str) -> None:
        """Withdraw states, write values and columns, give states back.

        A row with a value too large for `dtype` is marked unreadable, and says why.

        Raises:
            BackboneError: A value is not finite.
            StorageOverflowError: Every one of several rows has a value too large for `dtype`.
            StorageUnderflowError: More than `UNDERFLOW_SHARE` of a sample's values are too small for it.
        """
        done = self._done
        values = self._mark_overflows({n: self._cast(m[done], dtype) for n, m in self._data.values.items()}, dtype)
        columns = self._update_columns()
        now, then = self._withdraw(columns)
        for pooling, rows in values.items():
            self._write_values(pooling, rows, now[pooling])
        for name, (before, after) in columns.items():
            if before is None or not np.array_equal(before, after):
                self._arrays.column(name).write_block(self._block, after)
        self._write_checks(None, [after for _, after in columns.values()])
        for pooling, states in then.items():
            if pooling in values or not np.array_equal(states, now[pooling]):
                self._arrays.state(pooling).write_block(self._block, states)

    def _check_place(self) -> None:
        """Refuse rows and poolings that the key has no room for."""
        room = min(self._arrays.column("stamp").rows, len(self._stored), self._start + len(self._data.state))
        unknown = sorted(self._data.values.keys() - self._shapes.keys())
        wrong = [name for name, rows in self._data.values.items() if rows.shape[1:] != self._shapes.get(name)]
        if unknown or wrong or (len(self._given) and self._start + int(self._given[-1]) >= room):
            raise StoreError(
                f"the block does not fit: {', '.join(unknown + wrong) or 'more rows than samples'}",
                where=self._where,
                hint="Run the same command again: another process may have put this dataset with fewer samples. In "
                "Python, put_dataset and create, with the shapes of all poolings, make room.",
            )

    def _check_samples(self) -> None:
        """Refuse rows that were computed for other samples than the dataset has there now."""
        strange = self._data.sample_hashes[self._given] != self._stored.hashes(self._rows)
        if strange.any():
            raise StoreError(
                f"{int(strange.sum())} rows were computed for other samples than the dataset has there now, the first "
                f"is row {int(self._rows[strange.argmax()])}",
                where=self._where,
                hint="Another process has put this dataset meanwhile. Run the same command again.",
            )

    def _cast(self, values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
        """The rows that are done, in their storage type."""
        of_sample = tuple(range(1, values.ndim))
        bad: NDArray[np.bool_] = np.logical_not(np.isfinite(values).all(axis=of_sample))
        if bad.any():
            raise BackboneError(
                f"the features of {self._sample(bad)} are not finite",
                where=self._where,
                hint="Extract with --precision fp32, and check the image and the weights.",
            )
        with np.errstate(over="ignore"):
            cast = values.astype(dtype)
        if cast.dtype != values.dtype:
            self._check_underflow(values, cast, dtype)
        return cast

    def _mark_overflows(self, values: Mapping[str, NDArray[Any]], dtype: str) -> dict[str, NDArray[Any]]:
        """The rows of each pooling that fit into the storage type; the others become unreadable."""
        finite = [np.isfinite(cast).all(axis=tuple(range(1, cast.ndim))) for cast in values.values()]
        lost: NDArray[np.bool_] = np.logical_not(np.all(finite, axis=0)) if finite else np.zeros(0, np.bool_)
        if not lost.any():
            return dict(values)
        if lost.all() and len(lost) > 1:
            raise StorageOverflowError(
                f"the features of {self._sample(lost)} reach {self._largest(lost):.4g}, too much for {dtype}",
                where=self._where,
                hint="Extract with --dtype float32.",
            )
        rows, state = self._done[lost], self._data.state.copy()
        state[rows] = UNREADABLE
        reason = f"the features reach {self._largest(lost):.4g}, too much for {dtype}: use --dtype float32"
        reasons = {**self._data.reasons, **dict.fromkeys(rows.tolist(), reason)}
        self._data, self._done = replace(self._data, state=state, reasons=reasons), self._done[~lost]
        return {name: cast[~lost] for name, cast in values.items()}

    def _largest(self, rows: NDArray[np.bool_]) -> float:
        """The largest absolute value of these rows of what is done."""
        return max(float(np.abs(matrix[self._done[rows]]).max()) for matrix in self._data.values.values())

    def _check_underflow(self, values: NDArray[np.float32], cast: NDArray[Any], dtype: str) -> None:
        """Refuse a sample that the storage type keeps too little of: zeros, or numbers that are wrong by percents."""
        of_sample = tuple(range(1, values.ndim))
        lost = np.abs(cast.astype(np.float32) - values) > UNDERFLOW_ERROR * np.abs(values)
        shares = lost.sum(axis=of_sample) / np.maximum(1, np.count_nonzero(values, axis=of_sample))
        bad: NDArray[np.bool_] = (shares > UNDERFLOW_SHARE) & np.isfinite(cast).all(axis=of_sample)
        if bad.any():
            raise StorageUnderflowError(
                f"{shares[bad][0]:.0%} of the features of {self._sample(bad)} are too small for {dtype}: the largest "
                f"is {np.abs(values[bad][0]).max():.4g}",
                where=self._where,
                hint="Extract with --dtype float32.",
            )

    def _sample(self, rows: NDArray[np.bool_]) -> str:
        return self._stored.ids(self._start + self._done[[rows.argmax()]])[0]

    def _update_columns(self) -> dict[str, _Update]:
        """Column name -> what the block has, None if it was never written, and what it shall have."""
        given, data = self._given, self._data
        new = {
            "content": data.content[given],
            "stamp": data.fingerprints[given],
            "sample_hash": data.sample_hashes[given],
            "reason": encode_text([data.reasons.get(row, "") for row in given.tolist()], REASON_BYTES),
        }
        updates = {}
        for name, rows in new.items():
            column = self._arrays.column(name)
            before, after = column.read_stored(self._block), column.read_block(self._block)
            after[given] = rows
            updates[name] = before, after
        return updates

    def _withdraw(self, columns: Mapping[str, _Update]) -> tuple[States, States]:
        """Mark rows missing before anything else is touched: the given ones, and in other poolings those that change.

        Returns:
            States by pooling: as they are in the store now, and as they shall be in the end. Rows whose image changed
            go missing in poolings that are not written.
        """
        touched, content = _changed(columns.values()), _changed([columns["content"]])
        now, then = {}, {}
        for pooling in self._shapes:
            array, written = self._arrays.state(pooling), pooling in self._data.values
            then[pooling] = array.read_block(self._block)
            now[pooling] = then[pooling].copy()
            now[pooling][self._given if written else touched] = MISSING
            if len(then[pooling]) and (then[pooling] != MISSING).all():
                self._announce(now[pooling])
            if (now[pooling] != then[pooling]).any():
                array.write_block(self._block, now[pooling])
            if written:
                then[pooling][self._given] = self._data.state[self._given]
            else:
                then[pooling][content] = MISSING
        return now, then

    def _announce(self, states: NDArray[np.uint8]) -> None:
        """Say that a block that was complete is no more, before it is, to whoever trusts summaries."""
        rows = self._arrays.column("stamp").rows
        if (states == MISSING).any() and may_be_summarised(rows, self._arrays.block_rows):
            withdraw(self._arrays.storage, self._arrays.path, self._block)

    def _write_values(self, pooling: str, rows: NDArray[Any], state: NDArray[np.uint8]) -> None:
        """Rows that are neither new nor done are NaN, so that the same rows always make the same bytes."""
        array, kept = self._arrays.values(pooling), state == DONE
        chunk = array.fill(len(state))
        if kept.any():
            chunk[kept] = array.read_block(self._block)[kept]
        chunk[self._done] = rows
        array.write_block(self._block, chunk)
        self._write_checks(pooling, [self._data.state, chunk])

    def _write_checks(self, pooling: str | None, columns: Sequence[NDArray[Any]]) -> None:
        """Prove where the given rows of these columns belong."""
        array = self._arrays.check(pooling)
        if array is None:  # the key is older than checks, and `create` was not called for it since
            return
        checks = array.read_block(self._block)
        given, samples = self._given, self._data.sample_hashes[self._given]
        place = self._arrays.place(pooling)
        checks[given] = compute_checks(place, self._rows, samples, *(column[given] for column in columns))
        array.write_block(self._block, checks)


def _changed(updates: Iterable[_Update]) -> Rows:
    """Rows that any of these updates changes; none where nothing was written before."""
    known = [(before, after) for before, after in updates if before is not None]
    differing = [(before != after).reshape(len(after), -1).any(axis=1) for before, after in known]
    return np.flatnonzero(np.any(differing, axis=0)) if differing else np.zeros(0, dtype=np.int64)
