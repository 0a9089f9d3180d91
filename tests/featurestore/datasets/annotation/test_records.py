from __future__ import annotations

import pytest

from featurestore.datasets.annotation.records import AnnotatedImage, as_flag, as_side


@pytest.mark.parametrize(
    ("value", "side"), [(6, 6), ("6", 6), (6.0, 6), ("6.0", 6), (None, None), ("", None), (0, None)]
)
def test_sides(value: object, side: int | None) -> None:
    assert as_side(value) == side


@pytest.mark.parametrize("value", [-1, 2**31, 10**400, "six", "1" * 5000, float("nan"), 6.5, "inf"])
def test_impossible_sides(value: object) -> None:
    with pytest.raises(ValueError, match=r"pixels|could not convert"):
        as_side(value)


@pytest.mark.parametrize("value", [1, True, "1", " 1 ", "True", "yes", 1.0])
def test_flags_that_are_set(value: object) -> None:
    assert as_flag(value)


@pytest.mark.parametrize("value", [0, False, None, "", "0", "false", "Unspecified"])
def test_flags_that_are_not(value: object) -> None:
    assert not as_flag(value)


def test_a_size_needs_both_sides() -> None:
    assert AnnotatedImage("a", "", 6, (), width=8).size == (8, 6)
    assert AnnotatedImage("a", "", 6, ()).size is None
