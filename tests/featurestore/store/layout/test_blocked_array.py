from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import CorruptStoreError
from featurestore.store.layout.blocked_array import BlockedArray
from featurestore.store.layout.storage import Storage


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
    np.testing.assert_array_equal(array.read_all(array.rows), plain)
    np.testing.assert_array_equal(array.read_all(6), plain[:6])
    np.testing.assert_array_equal(array.read_all(12), np.concatenate([plain, np.full((2, 2), np.nan)]))


def test_growing_keeps_rows_and_fills_the_rest(array: BlockedArray, tmp_path: Path) -> None:
    before = array.read_all(array.rows)
    array.grow(13)
    array.grow(5)
    assert (array.rows, array.n_blocks) == (13, 4)
    np.testing.assert_array_equal(array.read_all(array.rows)[:10], before)
    assert np.isnan(BlockedArray(Storage(str(tmp_path), read_only=True), "x").read_all(13)[10:]).all()


def test_deleting_a_block(array: BlockedArray) -> None:
    array.delete_block(0)
    array.delete_block(1)
    assert array.read_stored(0) is None


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize("size", [0, 1, 4, 19, 21, 40])
def test_a_chunk_of_the_wrong_size(array: BlockedArray, tmp_path: Path, block: int, size: int) -> None:
    path = chunk(tmp_path, block)
    path.write_bytes((path.read_bytes() * 2)[:size])
    with pytest.raises(
        CorruptStoreError, match=rf"block {block} is damaged: {size} bytes instead of 20 .rows [0-9]+ to [0-9]+.*verify"
    ):
        array.read_all(array.rows)


@given(bit=st.integers(0, 20 * 8 - 1))
@settings(max_examples=40)
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


def test_every_block_is_visited_once(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path), read_only=False)
    storage.require_array("x", (100,), "uint64", (2,), ["sample"])
    array = BlockedArray(storage, "x")
    for block in range(0, 50, 3):
        array.write_block(block, np.array([block, block + 1], dtype="u8"))
    found = []
    array.visit([48, 1, *range(2, 48)], lambda block, rows: found.append((block, None if rows is None else rows[0])))
    assert sorted(found) == [(block, None if block % 3 else block) for block in range(1, 49)]


@pytest.fixture(scope="module")
def sparse(tmp_path_factory) -> tuple[BlockedArray, np.ndarray]:
    """103 rows in blocks of four, every fifth block never written; and what zarr reads."""
    root = str(tmp_path_factory.mktemp("sparse"))
    storage = Storage(root, read_only=False)
    storage.require_array("x", (103, 3), "float16", (4, 3), ["sample", "feature"], float("nan"))
    array, values = BlockedArray(storage, "x"), np.random.default_rng(0).standard_normal((103, 3)).astype("f2")
    for block in range(array.n_blocks):
        if block % 5 != 2:
            array.write_block(block, values[block * 4 : block * 4 + 4])
    return array, zarr.open_array(f"{root}/x", mode="r")[:]


@given(rows=st.sets(st.integers(0, 110)), dtype=st.sampled_from([None, "float16", "float32", "float64"]))
def test_some_rows_agree_with_zarr(sparse, rows: set[int], dtype: str | None) -> None:
    array, plain = sparse
    plain = np.concatenate([plain, np.full((8, 3), np.nan, dtype="f2")])
    chosen = np.array(sorted(rows), dtype=np.int64)
    found = array.read_rows(chosen, dtype)
    assert found.dtype == np.dtype(dtype or "float16")
    np.testing.assert_array_equal(found, plain[chosen].astype(found.dtype))


@pytest.mark.parametrize("row", [8, 11, 103, 110])
def test_required_rows_must_have_been_written(sparse, row: int) -> None:
    array, plain = sparse
    chosen = np.array([0, 13, row]) if row > 13 else np.array([0, row, 13])
    with pytest.raises(CorruptStoreError, match=f"block {row // 4} has no values for rows that say done"):
        array.read_rows(chosen, required=True)
    np.testing.assert_array_equal(array.read_rows(np.array([0, 13, 102]), required=True), plain[[0, 13, 102]])


def test_only_blocks_that_have_the_rows_are_read(sparse, monkeypatch) -> None:
    array, _ = sparse
    visited: list[int] = []
    visit = array.visit
    monkeypatch.setattr(array, "visit", lambda blocks, use: visited.extend(blocks) or visit(blocks, use))
    array.read_rows(np.array([5, 6, 81]))
    assert visited == [1, 20]


def test_every_float16_is_converted_exactly(tmp_path: Path) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 16)
    storage = Storage(str(tmp_path), read_only=False)
    storage.require_array("x", every.shape, "float16", (512, 16), ["sample", "feature"])
    array = BlockedArray(storage, "x")
    for block in range(array.n_blocks):
        array.write_block(block, every[block * 512 : block * 512 + 512])
    np.testing.assert_array_equal(array.read_rows(np.arange(len(every)), "float32"), every.astype("float32"))


def test_no_array(tmp_path: Path) -> None:
    with pytest.raises(CorruptStoreError, match="an array is missing"):
        BlockedArray(Storage(str(tmp_path), read_only=True), "x")


@pytest.fixture
def parted(tmp_path: Path) -> BlockedArray:
    """Eleven rows of (2, 3) in blocks of six, each of three chunks."""
    storage = Storage(str(tmp_path), read_only=False)
    storage.require_array("p", (11, 2, 3), "float16", (2, 2, 3), ["sample", "y", "x"], float("nan"))
    return BlockedArray(storage, "p", 6)


def test_blocks_of_several_chunks(parted: BlockedArray, tmp_path: Path) -> None:
    every = np.arange(66, dtype="f2").reshape(11, 2, 3)
    for block in (0, 1):
        parted.write_block(block, every[block * 6 : block * 6 + 6])
    assert (parted.n_blocks, parted.block_rows, parted.chunk_rows, parted.width) == (2, 6, 2, 6)
    assert len(list((tmp_path / "p" / "c").rglob("0"))) >= 6
    np.testing.assert_array_equal(parted.read_block(1), every[6:])
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "p"), mode="r")[:], every)
    np.testing.assert_array_equal(parted.read_rows(np.array([1, 4, 10]), np.float32), every[[1, 4, 10]])
    parted.delete_block(0)
    assert parted.read_stored(0) is None
    np.testing.assert_array_equal(parted.read_block(1), every[6:])


def test_a_lost_chunk_is_missing_rows_and_a_damaged_one_an_error(parted: BlockedArray, tmp_path: Path) -> None:
    parted.write_block(0, np.ones((6, 2, 3), dtype="f2"))
    files = [tmp_path / "p" / "c" / str(number) / "0" / "0" for number in range(3)]
    files[1].unlink()
    rows = parted.read_stored(0)
    assert rows is not None
    assert np.isnan(rows[2:4]).all()
    assert (rows[[0, 1, 4, 5]] == 1).all()
    with pytest.raises(CorruptStoreError, match="no values for rows that say done"):
        parted.read_rows(np.arange(6), required=True)
    files[2].write_bytes(b"short")
    with pytest.raises(CorruptStoreError, match="block 0 is damaged"):
        parted.read_stored(0)
