from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Annotated

import pytest

from featurestore.errors import UnknownNameError, UsageError
from featurestore.options import Count, Names, Numbers, Share, assign, one_of, options


@options
class Paint:
    """What a wall is painted with."""

    colour: Annotated[str, one_of("colour", ("red", "green"))] = "red"
    coats: Count = 1
    cover: Share = 1.0


@options
class House:
    """Walls."""

    rooms: Names = ()
    floors: Numbers = (0,)
    paint: Paint = Paint()


def test_options_are_frozen_dataclasses():
    paint = Paint("green", coats=2)
    assert asdict(replace(paint, cover=0.5)) == {"colour": "green", "coats": 2, "cover": 0.5}
    assert pickle.loads(pickle.dumps(paint)) == paint
    with pytest.raises(FrozenInstanceError):
        paint.coats = 3


@pytest.mark.parametrize("coats", [1.5, 1.0, "1", True, None, 0])
def test_only_the_very_type_in_its_range_is_taken(coats):
    with pytest.raises(UsageError, match=rf"coats should be .* \[coats={coats!r}\]\. Correct it, or leave it out\."):
        Paint(coats=coats)


def test_a_value_that_is_given_by_position_is_named():
    with pytest.raises(UsageError, match=r"coats should be a valid integer .*\[coats=1.5\]"):
        Paint("red", 1.5)


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(UsageError, match=r"coats should .*; cover should .* \[coats=0, cover=2\]"):
        Paint(coats=0, cover=2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value):
    with pytest.raises(UsageError, match="cover should be a finite number"):
        Paint(cover=value)


def test_an_unknown_field_is_refused_with_the_nearest_ones():
    with pytest.raises(UnknownNameError, match=r"unknown option 'coat' .*Did you mean coats"):
        Paint(coat=2)


def test_a_name_out_of_several_is_refused_with_the_nearest_ones():
    with pytest.raises(UnknownNameError, match=r"unknown colour 'gren' .*Did you mean green"):
        Paint("gren")


def test_a_list_stands_for_a_tuple_but_its_items_keep_their_type():
    assert House(["a", "b"], [1, 2]) == House(("a", "b"), (1, 2))
    with pytest.raises(UsageError, match=r"floors\.1 should be a valid integer"):
        House(floors=[1, 2.5])
    with pytest.raises(UsageError, match="rooms should be a list"):
        House(rooms="kitchen")


def test_options_inside_options_are_made_first():
    with pytest.raises(UsageError, match=r"paint should be .*Paint"):
        House(paint={"coats": 2})


def test_flat_options_go_to_the_first_that_has_them():
    assert assign({"coats": 2, "rooms": ("a",), "cover": None}, {"paint": Paint, "house": House}) == {
        "paint": {"coats": 2},
        "house": {"rooms": ("a",)},
    }


def test_a_flat_option_that_nobody_has_is_refused():
    with pytest.raises(UnknownNameError, match=r"unknown option 'room' .*Did you mean rooms"):
        assign({"room": "a"}, {"paint": Paint, "house": House})
    with pytest.raises(UnknownNameError, match="unknown option 'paint'"):
        assign({"paint": Paint()}, {"house": House}, apart=["paint"])
