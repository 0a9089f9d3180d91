"""Shapes of features as attributes, and the chunks that hold them."""

from __future__ import annotations

from math import prod

from hypothesis import given
from hypothesis import strategies as st

from featurestore.store.layout.key_arrays import CHUNK_BYTES, chunk_rows, read_shapes, write_shapes

_sizes = st.integers(1, 4096)
_shapes = st.one_of(st.tuples(_sizes), st.tuples(_sizes, _sizes, _sizes))


@given(shapes=st.dictionaries(st.text(), _shapes))
def test_shapes_survive_the_attribute(shapes: dict[str, tuple[int, ...]]) -> None:
    assert read_shapes(write_shapes(shapes)) == shapes


def test_a_number_of_features_is_written_as_one() -> None:
    assert write_shapes({"cls": (384,), "patches": (16, 16, 384)}) == [["cls", 384], ["patches", [16, 16, 384]]]


@given(block_rows=st.integers(1, 2048), shape=_shapes)
def test_chunks_divide_a_block_and_have_a_limit(block_rows: int, shape: tuple[int, ...]) -> None:
    rows = chunk_rows(block_rows, 2 * prod(shape))
    assert block_rows % rows == 0
    assert rows * 2 * prod(shape) <= CHUNK_BYTES or rows % 2 == 1
    assert rows == block_rows or 2 * rows * 2 * prod(shape) > CHUNK_BYTES


def test_vectors_fill_one_chunk_a_block() -> None:
    assert chunk_rows(512, 2 * 1280) == 512
    assert chunk_rows(512, 2 * 16 * 16 * 384) == 256
