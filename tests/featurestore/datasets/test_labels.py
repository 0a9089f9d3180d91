from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.datasets.labels import encode_labels, normalise_split


@given(st.lists(st.none() | st.text(max_size=3)))
def test_labels_index_their_classes(names: list[str | None]) -> None:
    labels, classes = encode_labels(names)
    assert [None if label == -1 else classes[label] for label in labels] == names
    assert set(classes) == set(names) - {None}
    assert len(set(classes)) == len(classes)
    assert labels.dtype == np.int64


def test_numbers_are_sorted_by_value_and_before_words() -> None:
    assert encode_labels(["b", "10", "9", "a", None])[1] == ("9", "10", "a", "b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("train", "train"), ("Val", "valid"), ("validation", "valid"), ("TEST", "test"), (None, ""), ("hold", "hold")],
)
def test_splits(text: str | None, expected: str) -> None:
    assert normalise_split(text) == expected
