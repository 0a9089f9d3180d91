"""A feature matrix in memory against the same one in its store: readers of the protocol need not know which it is."""

import numpy as np
import pytest

from featurestore.errors import CorruptStoreError


@pytest.fixture
def stored(store, make_table, make_entry, fill):
    """Twenty-two rows in blocks of at most four."""
    table = make_table(30)
    arrays = make_entry(store, table)
    fill(arrays, table, unreadable=[1])
    return arrays.open("cls")


@pytest.fixture(params=["in memory", "stored"])
def matrix(request, stored):
    return stored if request.param == "stored" else stored.read()


def test_only_a_matrix_in_memory_has_no_blocks(stored):
    assert (stored.block_rows, stored.read().block_rows) == (4, None)


@pytest.mark.parametrize("rows", [[], [3], [20, 0, 7], [5, 5, 2]])
def test_rows_are_taken_in_the_order_given(matrix, expected, rows):
    values = matrix.take(np.array(rows, dtype=np.int64))
    names = [matrix.table.sample_ids[row] for row in rows]
    assert values.dtype == np.float32
    assert values.shape == (len(rows), 3)
    if rows:
        np.testing.assert_array_equal(values, expected(names))


@pytest.mark.parametrize("size", [1, 5, 22, 100])
def test_blocks_are_all_rows_in_order(matrix, size):
    spans, values = zip(*matrix.blocks(size), strict=True)
    assert [row for span in spans for row in range(22)[span]] == list(range(22))
    assert max(map(len, values)) <= size
    np.testing.assert_array_equal(np.concatenate(values), matrix.read().values)


@pytest.mark.parametrize("size", [4, 9, 100])
def test_shuffled_blocks_are_all_rows_in_an_order_that_the_generator_decides(matrix, size):
    parts, values = zip(*matrix.shuffled_blocks(size, np.random.default_rng(1)), strict=True)
    again, _ = zip(*matrix.shuffled_blocks(size, np.random.default_rng(1)), strict=True)
    other, _ = zip(*matrix.shuffled_blocks(size, np.random.default_rng(2)), strict=True)
    assert sorted(np.concatenate(parts)) == list(range(22))
    for part, block, same in zip(parts, values, again, strict=True):
        np.testing.assert_array_equal(part, np.sort(part))
        np.testing.assert_array_equal(part, same)
        np.testing.assert_array_equal(block, matrix.take(part))
    assert size == 100 or any(not np.array_equal(*pair) for pair in zip(parts, other, strict=True))


def test_reading_gives_one_in_memory(matrix, stored):
    assert matrix.read().table.sample_ids == stored.table.sample_ids
    assert matrix.read().read() is not None


def test_rows_without_samples_are_refused(stored):
    whole = stored.read()
    with pytest.raises(CorruptStoreError, match="21 feature rows for 22 samples"):
        type(whole)(whole.variant, whole.backbone, whole.pooling, whole.key, whole.values[1:], whole.table)
