"""Rows by sorted hashes are those of a dictionary of strings, in whatever order and pieces samples come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.samples import hash_ids
from featurestore.store.table import rows as rows_module
from featurestore.store.table.rows import RowAllocation, RowIndex
from featurestore.store.table.stored_table import StoredTable


def names(numbers) -> list[str]:
    return [f"id{number}" for number in numbers]


@pytest.mark.parametrize("part", [2, 7, 1000])
def test_the_index_finds_every_row_and_nothing_else(monkeypatch, part: int) -> None:
    monkeypatch.setattr(rows_module, "_PART_ROWS", part)
    monkeypatch.setattr(rows_module, "_STEP", 5)
    index = RowIndex(StoredTable.of_ids(names(range(33))))
    order = np.random.default_rng(0).permutation(40)
    assert index.find(hash_ids(names(order))).tolist() == [row if row < 33 else -1 for row in order.tolist()]


@given(
    known=st.integers(0, 12),
    order=st.lists(st.integers(0, 15), unique=True, min_size=1),
    size=st.integers(1, 6),
)
@settings(deadline=None)
def test_rows_are_those_of_a_dictionary(known: int, order: list[int], size: int) -> None:
    allocation = RowAllocation(StoredTable.of_ids(names(range(known))) if known else None)
    right = {name: row for row, name in enumerate(names(range(known)))}
    for start in range(0, len(order), size):
        piece = names(order[start : start + size])
        expected = [right.setdefault(name, len(right)) for name in piece]
        assert allocation.place(hash_ids(piece)).tolist() == expected
    allocation.finish()
    assert (allocation.n_rows, allocation.twice) == (len(right), [])


@given(
    known=st.integers(0, 12),
    order=st.lists(st.integers(0, 15), unique=True, min_size=1),
    size=st.integers(1, 6),
    data=st.data(),
)
@settings(deadline=None)
def test_whatever_comes_twice_is_found(known: int, order: list[int], size: int, data) -> None:
    again = data.draw(st.sampled_from(order))
    order.insert(data.draw(st.integers(0, len(order))), again)
    allocation = RowAllocation(StoredTable.of_ids(names(range(known))) if known else None)
    for start in range(0, len(order), size):
        allocation.place(hash_ids(names(order[start : start + size])))
    allocation.finish()
    assert set(np.concatenate(allocation.twice).tolist()) == set(hash_ids(names([again])).tolist())


def test_an_index_is_made_only_where_the_order_is_another(monkeypatch) -> None:
    made = []
    monkeypatch.setattr(rows_module, "RowIndex", lambda stored: made.append(RowIndex(stored)) or made[-1])
    allocation = RowAllocation(StoredTable.of_ids(names(range(6))))
    allocation.place(hash_ids(names(range(4))))
    allocation.place(hash_ids(names(range(4, 9))))
    assert not made
    assert allocation.place(hash_ids(names([11, 10]))).tolist() == [9, 10]
    assert not made
    other = RowAllocation(StoredTable.of_ids(names(range(6))))
    other.place(hash_ids(names([1, 0])))
    assert len(made) == 1
