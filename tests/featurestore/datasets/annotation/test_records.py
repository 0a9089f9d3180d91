from __future__ import annotations

import pytest

from featurestore.datasets.annotation.records import AnnotatedImage, as_side


@pytest.mark.parametrize(("value", "side"), [(6, 6), ("6", 6), (6.0, 6), (None, None), ("", None), (0, None)])
def test_sides(value: object, side: int | None) -> None:
    assert as_side(value) == side


@pytest.mark.parametrize("value", [-1, 2**31, 10**400, "six", "1" * 5000, float("nan")])
def test_impossible_sides(value: object) -> None:
    with pytest.raises(ValueError, match=r"pixels|invalid literal|Exceeds|NaN"):
        as_side(value)


def test_a_size_needs_both_sides() -> None:
    assert AnnotatedImage("a", "", 6, (), width=8).size == (8, 6)
    assert AnnotatedImage("a", "", 6, ()).size is None
