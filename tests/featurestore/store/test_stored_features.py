from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import CorruptStoreError
from featurestore.store.layout.blocked_array import BlockedArray


@pytest.fixture
def stored(store, make_table, make_entry, fill):
    """Thirty samples in blocks of four rows; each block's second one is unreadable."""
    table = make_table(30)
    arrays = make_entry(store, table)
    fill(arrays, table, unreadable=[1])
    return arrays.open("cls")


def chunk(store, stored, block: int) -> Path:
    return Path(store.path) / stored.array.path / "c" / str(block) / "0"


def test_metadata_needs_no_values(stored, store, make_table, monkeypatch) -> None:
    for block in range(8):
        chunk(store, stored, block).unlink()
    again = store.select().open("cls")
    assert again.shape == (22, 3)
    assert again.dtype == np.float16
    assert again.table.sample_ids == tuple(n for row, n in enumerate(make_table(30).sample_ids) if row % 4 != 1)
    assert len(again.unreadable) == 8
    assert (again.pooling, again.backbone) == ("cls", "timm:resnet18.a1_in1k")


def test_reading_is_that_of_the_feature_arrays(stored, store, expected) -> None:
    whole, other = stored.read(), store.select().read("cls")
    np.testing.assert_array_equal(whole.values, expected(stored.table.sample_ids))
    np.testing.assert_array_equal(whole.values, other.values)
    assert whole.table.sample_ids == other.table.sample_ids
    assert whole.unreadable == other.unreadable
    assert whole.provenance == other.provenance


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("rows", [1, 3, 4, 21, 22, 100])
def test_blocks_are_all_rows_in_order(stored, expected, rows: int, dtype: str) -> None:
    spans, values = zip(*stored.blocks(rows, dtype), strict=True)
    assert [row for span in spans for row in range(22)[span]] == list(range(22))
    assert {len(block) for block in values[:-1]} <= {rows}
    assert {block.dtype for block in values} == {np.dtype(dtype)}
    np.testing.assert_array_equal(np.concatenate(values), expected(stored.table.sample_ids))


@pytest.mark.parametrize("rows", [1, 4, 9, 100])
def test_shuffled_blocks_are_all_rows_in_another_order(stored, expected, rows: int) -> None:
    parts, values = zip(*stored.shuffled_blocks(rows, np.random.default_rng(1)), strict=True)
    assert sorted(np.concatenate(parts)) == list(range(22))
    assert all((np.diff(part) > 0).all() for part in parts)
    of_block = [set(stored.kept[part] // 4) for part in parts]
    assert {len(blocks) for blocks in of_block[:-1]} <= {max(1, rows // 4)}
    assert sum(map(len, of_block)) == 8
    for part, block in zip(parts, values, strict=True):
        np.testing.assert_array_equal(block, expected([stored.table.sample_ids[row] for row in part]))


def test_the_order_of_shuffled_blocks_follows_the_generator(stored) -> None:
    orders = [
        np.concatenate([part for part, _ in stored.shuffled_blocks(4, np.random.default_rng(seed))])
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()


def test_any_span_can_be_read(stored, expected) -> None:
    for span in (slice(3, 9), slice(20, None), slice(5, 5), slice(None, -4)):
        np.testing.assert_array_equal(stored.values(span), expected(stored.table.sample_ids[span]))


def test_no_rows_have_no_blocks(store, make_table, make_entry) -> None:
    empty = make_entry(store, make_table(3)).open("cls", allow_partial=True)
    assert empty.shape == (0, 3)
    assert list(empty.blocks()) == []
    assert empty.read().values.shape == (0, 3)


def test_damage_is_seen_at_its_block(stored, store, damage) -> None:
    damage(chunk(store, stored, 5))
    blocks = stored.blocks(3)
    for number in range(5):
        assert next(blocks)[0] == slice(number * 3, number * 3 + 3)
    with pytest.raises(CorruptStoreError, match=r"block 5 is damaged.*skyprobe verify --repair"):
        next(blocks)


def test_an_absent_chunk_is_never_read_as_zeros(stored, store) -> None:
    chunk(store, stored, 7).unlink()
    with pytest.raises(CorruptStoreError, match="block 7 has no values for rows that say done"):
        list(stored.blocks())


def test_at_most_three_blocks_live_at_a_time(stored, monkeypatch) -> None:
    read, living, most = BlockedArray.read_rows, [0], [0]

    class Counted(np.ndarray):
        def __del__(self) -> None:
            living[0] -= 1

    def count(self, *args: object, **options: object) -> np.ndarray:
        living[0] += 1
        most[0] = max(most[0], living[0])
        return read(self, *args, **options).view(Counted)

    monkeypatch.setattr(BlockedArray, "read_rows", count)
    assert sum(len(values) for _, values in stored.blocks(2)) == 22
    gc.collect()
    assert most[0] <= 3
    assert living[0] == 0
