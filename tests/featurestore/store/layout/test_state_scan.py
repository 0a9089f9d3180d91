"""Summaries save reading, and never say of a row that it is done when it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.store import open_store
from featurestore.store.entry import Counts
from featurestore.store.layout import block_summary
from featurestore.store.layout.storage import Storage
from featurestore.store.verify import verify


@pytest.fixture(autouse=True)
def every_size(monkeypatch) -> None:
    monkeypatch.setattr(block_summary, "FIRST_BLOCKS", 0)
    monkeypatch.setattr(block_summary, "GROUP", 2)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Files that are read."""
    read: list[str] = []
    before = Storage.read_files
    monkeypatch.setattr(Storage, "read_files", lambda *args: (read.extend(args[1]), before(*args))[1])
    return read


@pytest.fixture
def summarised(full):
    full.summarise()
    return full


def pending(entry, table, **options) -> list[int]:
    found = entry.pending(table.fingerprints, np.ones(len(table), bool), **options)
    return np.flatnonzero(found).tolist()


def states_read(reads: list[str]) -> set[str]:
    return {name for name in reads if "/state/" in name or "/stamp/" in name}


def test_nothing_is_read_of_complete_blocks(summarised, make_table, reads) -> None:
    assert summarised.counts() == Counts(10, 0, 0)
    assert pending(summarised, make_table(10)) == []
    assert pending(summarised, make_table(10), retry_unreadable=True) == []
    assert states_read(reads) == set()


def test_only_changed_blocks_are_read(summarised, make_table, reads) -> None:
    table = make_table(10)
    table.fingerprints[5] += np.uint64(1)
    assert pending(summarised, table) == [5]
    assert {name.rpartition("/")[2] for name in states_read(reads)} == {"1"}


def test_unreadable_rows_are_counted_and_tried_again(store, make_table, make_entry, make_block, reads) -> None:
    table = make_table(10)
    entry = make_entry(store, table)
    for block in range(3):
        unreadable = [1] if block == 1 else []
        entry.write_block(block, make_block(table.sample_ids[block * 4 : block * 4 + 4], unreadable=unreadable))
    entry.summarise()
    reads.clear()
    assert entry.counts() == entry.counts("cls") == Counts(9, 1, 0)
    assert pending(entry, table) == []
    assert states_read(reads) == set()
    assert pending(entry, table, retry_unreadable=True) == [5]
    assert {name.rpartition("/")[2] for name in states_read(reads)} == {"1"}


def test_blocks_that_were_never_written_are_not_read(store, make_table, make_entry, make_block, reads) -> None:
    table = make_table(10)
    entry = make_entry(store, table)
    entry.write_block(1, make_block(table.sample_ids[4:8]))
    entry.summarise()
    reads.clear()
    assert pending(entry, table) == [0, 1, 2, 3, 8, 9]
    assert entry.counts() == Counts(4, 0, 6)
    assert states_read(reads) == set()


def test_a_dataset_that_grows_or_shrinks(summarised, store, make_table, make_entry, fill) -> None:
    longer = make_table(14)
    entry = make_entry(store, longer)
    assert pending(entry, longer) == [10, 11, 12, 13]
    fill(entry, longer)
    entry.summarise()
    assert entry.counts() == Counts(14, 0, 0)
    store.put_dataset(longer.take(np.arange(1, 14)))
    assert entry.counts() == Counts(13, 0, 0)


def test_a_block_that_is_forgotten_or_half_written_is_never_called_done(summarised, make_table, make_block) -> None:
    summarised.discard_block(0)
    names = make_table(10).sample_ids
    summarised.write_block(1, make_block([names[4], None, None, None], version=1, poolings=["cls"]))
    summarised.summarise()
    assert pending(summarised, make_table(10), poolings=["cls"]) == [0, 1, 2, 3, 4]
    assert pending(summarised, make_table(10), poolings=["avg_patch"]) == [0, 1, 2, 3, 4]
    assert summarised.counts("avg_patch") == Counts(5, 0, 5)


def test_a_summary_that_comes_late_counts_for_nothing(summarised, store, make_table, make_block) -> None:
    """One reads that a block is done, another withdraws it, then the first notes what it read."""
    summary = Path(store.path) / summarised.path / "cls" / "summary" / "c" / "0" / "0"
    late = summary.read_bytes()
    summarised.discard_block(0)
    summary.write_bytes(late)
    again = open_store(store.path).select()
    assert again.counts("cls") == Counts(6, 0, 4)
    assert pending(again, make_table(10)) == [0, 1, 2, 3]


def test_a_damaged_summary_is_none(summarised, store, make_table, damage) -> None:
    for chunk in (Path(store.path) / summarised.path / "cls" / "summary" / "c").glob("*/0"):
        damage(chunk)
    assert summarised.counts() == Counts(10, 0, 0)
    assert pending(summarised, make_table(10)) == []


def test_repair_makes_summaries_anew(summarised, store, make_table, make_block, reads) -> None:
    summarised.write_block(0, make_block(make_table(10).sample_ids[:4], version=0))
    store.close()
    reads.clear()
    assert summarised.counts() == Counts(10, 0, 0)
    assert states_read(reads) != set()
    assert verify(open_store(store.path, mode="a"), repair=True) == []
    reads.clear()
    assert summarised.counts() == Counts(10, 0, 0)
    assert states_read(reads) == set()


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["write", "part", "discard", "summarise"])), max_size=8))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_with_summaries_as_without(tmp_path_factory, make_table, make_entry, make_block, steps) -> None:
    store = open_store(str(tmp_path_factory.mktemp("h") / "s"), mode="a", block_rows=4)
    table = make_table(10)
    entry = make_entry(store, table)
    for version, (block, what) in enumerate(steps):
        names = table.sample_ids[block * 4 : block * 4 + 4]
        if what == "write":
            entry.write_block(block, make_block(names, version % 2))
        elif what == "part":
            own = [names[0], *[None] * (len(names) - 1)]
            entry.write_block(block, make_block(own, version % 2, poolings=["cls"], unreadable=[0] * (version % 2)))
        elif what == "discard":
            entry.discard_block(block)
        else:
            entry.summarise()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_summary, "FIRST_BLOCKS", 10**9)
        right = [entry.counts(name) for name in (None, "cls")], pending(entry, table)
    assert ([entry.counts(name) for name in (None, "cls")], pending(entry, table)) == right
