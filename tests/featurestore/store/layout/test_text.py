from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featurestore.store.layout.text import decode_text, encode_text

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12), max_size=8)


@given(TEXTS)
def test_text_survives(texts: list[str]) -> None:
    matrix = encode_text(texts)
    assert matrix.dtype == np.uint8
    assert matrix.shape == (len(texts), max([1, *(len(text.encode()) for text in texts)]))
    assert decode_text(matrix) == texts


@given(TEXTS, st.integers(4, 10))
def test_long_text_is_cut_at_a_character(texts: list[str], width: int) -> None:
    matrix = encode_text(texts, width)
    assert matrix.shape == (len(texts), width)
    for text, cut in zip(texts, decode_text(matrix), strict=True):
        assert text.startswith(cut)
        assert len(text.encode()) <= width or width - 4 < len(cut.encode()) <= width


def test_the_bytes_are_utf8() -> None:
    assert encode_text(["é", "ab"]).tolist() == [[0xC3, 0xA9], [0x61, 0x62]]
