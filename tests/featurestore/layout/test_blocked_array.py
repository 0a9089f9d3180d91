from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import CorruptStoreError
from featurestore.layout.blocked_array import BlockedArray
from featurestore.layout.storage import Storage


@pytest.fixture
def array(tmp_path: Path) -> BlockedArray:
    """Ten rows of two in blocks of four; the middle block is never written."""
    storage = Storage(str(tmp_path), read_only=False)
    storage.require_array("x", (10, 2), "float16", (4, 2), ["sample", "feature"], float("nan"))
    array = BlockedArray(storage, "x")
    array.write_block(0, np.arange(8, dtype="f2").reshape(4, 2))
    array.write_block(2, np.full((2, 2), 7, dtype="f2"))
    return array


def chunk(root: Path, block: int) -> Path:
    return root / "x" / "c" / str(block) / "0"


def test_blocks(array: BlockedArray) -> None:
    assert (array.rows, array.block_rows, array.n_blocks) == (10, 4, 3)
    assert array.read_stored(1) is None
    assert array.read_stored(5) is None
    np.testing.assert_array_equal(array.read_block(1), np.full((4, 2), np.nan))
    np.testing.assert_array_equal(array.read_block(2), [[7, 7], [7, 7]])


def test_read_all_agrees_with_zarr(array: BlockedArray, tmp_path: Path) -> None:
    plain = zarr.open_array(str(tmp_path / "x"), mode="r")[:]
    np.testing.assert_array_equal(array.read_all(), plain)
    np.testing.assert_array_equal(array.read_all(6), plain[:6])
    np.testing.assert_array_equal(array.read_all(12), np.concatenate([plain, np.full((2, 2), np.nan)]))


def test_growing_keeps_rows_and_fills_the_rest(array: BlockedArray, tmp_path: Path) -> None:
    before = array.read_all()
    array.grow(13)
    array.grow(5)
    assert (array.rows, array.n_blocks) == (13, 4)
    np.testing.assert_array_equal(array.read_all()[:10], before)
    assert np.isnan(BlockedArray(Storage(str(tmp_path), read_only=True), "x").read_all()[10:]).all()


def test_deleting_a_block(array: BlockedArray) -> None:
    array.delete_block(0)
    array.delete_block(1)
    assert array.read_stored(0) is None


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize("size", [0, 1, 4, 19, 21, 40])
def test_a_chunk_of_the_wrong_size(array: BlockedArray, tmp_path: Path, block: int, size: int) -> None:
    path = chunk(tmp_path, block)
    path.write_bytes((path.read_bytes() * 2)[:size])
    with pytest.raises(CorruptStoreError, match=rf"block {block} is damaged: {size} bytes instead of 20.*verify"):
        array.read_all()


@given(bit=st.integers(0, 20 * 8 - 1))
@settings(max_examples=40, deadline=None)
def test_every_flipped_bit_is_seen(tmp_path_factory, bit: int) -> None:
    root = tmp_path_factory.mktemp("flip")
    storage = Storage(str(root), read_only=False)
    storage.require_array("x", (4, 2), "float16", (4, 2), ["sample", "feature"])
    array = BlockedArray(storage, "x")
    array.write_block(0, np.arange(8, dtype="f2").reshape(4, 2))
    raw = bytearray(chunk(root, 0).read_bytes())
    raw[bit // 8] ^= 1 << bit % 8
    chunk(root, 0).write_bytes(raw)
    with pytest.raises(CorruptStoreError, match="the checksum is wrong"):
        array.read_block(0)


def test_a_zero_page(array: BlockedArray, tmp_path: Path) -> None:
    chunk(tmp_path, 0).write_bytes(bytes(20))
    with pytest.raises(CorruptStoreError, match="checksum"):
        array.read_stored(0)


@pytest.mark.parametrize("block", [0, 2])
def test_a_damaged_block_can_be_overwritten(array: BlockedArray, tmp_path: Path, block: int) -> None:
    chunk(tmp_path, block).write_bytes(bytes(20))
    array.delete_block(block)
    new = np.ones_like(array.read_block(block))
    array.write_block(block, new)
    np.testing.assert_array_equal(array.read_block(block), new)


def test_many_blocks_come_in_order(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), read_only=False)
    storage.require_array("x", (100,), "uint64", (2,), ["sample"])
    array = BlockedArray(storage, "x")
    for block in range(0, 50, 3):
        array.write_block(block, np.array([block, block + 1], dtype="u8"))
    wanted = [48, 1, *range(50)]
    found = list(array.read_blocks(wanted))
    assert [block for block, _ in found] == wanted
    assert all((rows is None) == (block % 3 != 0) for block, rows in found)
    assert all(rows[0] == block for block, rows in found if rows is not None)


def test_no_array(tmp_path: Path) -> None:
    with pytest.raises(CorruptStoreError, match="an array is missing"):
        BlockedArray(Storage(str(tmp_path), read_only=True), "x")
