from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import SeenRowsError
from featurestore.training_rows import (
    SEEN,
    TRAINING_ROWS,
    check_test_rows,
    count_seen,
    leave_out_rows,
    pack_rows,
    recorded_rows,
)

names = st.lists(st.text(), max_size=30, unique=True)


@given(names, names, names)
def test_exactly_the_packed_rows_are_found(first, second, tested):
    packed = pack_rows(second, pack_rows(first))
    assert count_seen(tested, packed) == len(set(tested) & {*first, *second})
    assert packed == pack_rows([*second, *reversed(first)]), "neither order nor repetition matters"


def test_test_rows_that_were_seen_are_refused():
    records = {"tuned:a": pack_rows(["1", "2", "3"])}
    assert check_test_rows(records, ["4", "5"], "sky") == {}
    message = r"tuned:a was trained on 2 of the 3 test rows \[sky\]. Test on rows .*--allow-seen-rows"
    with pytest.raises(SeenRowsError, match=message):
        check_test_rows(records, ["2", "3", "4"], "sky")
    assert check_test_rows(records, ["2", "3", "4"], "sky", allow=True) == {SEEN: 2}


def test_test_rows_that_any_of_several_backbones_saw_are_counted_once():
    records = {"tuned:a": pack_rows(["1", "2"]), "tuned:b": pack_rows(["2", "3"]), "tuned:c": pack_rows([])}
    assert check_test_rows(records, ["1", "2", "3", "4"], "sky", allow=True) == {SEEN: 3}
    assert check_test_rows(records | {"tuned:d": None}, ["1", "2"], "sky", allow=True) == {SEEN: "unknown"}


def test_rows_that_nobody_knows_are_refused_too():
    with pytest.raises(SeenRowsError, match=r"nobody wrote down which rows tuned:a was trained on \[sky\]"):
        check_test_rows({"tuned:a": None}, ["1"], "sky")
    assert check_test_rows({"tuned:a": None}, ["1"], "sky", allow=True) == {SEEN: "unknown"}


def test_a_backbone_that_was_not_trained_here_has_seen_nothing():
    assert recorded_rows({}) == {}
    assert recorded_rows({"spec": {"name": "dinov2-s", "adapter": "timm"}}) == {}
    assert check_test_rows({}, ["1"], "sky") == {}


def test_features_say_what_their_backbones_have_seen():
    spec = {"name": "tuned:a", "adapter": "tuned"}
    packed, other = pack_rows(["1"]), {"spec": {"name": "dinov2-s", "adapter": "timm"}}
    assert recorded_rows({"spec": spec, TRAINING_ROWS: packed}) == {"tuned:a": packed}
    assert recorded_rows({"spec": spec}) == {"tuned:a": None}, "features that are older than this field"
    one, two, lost = (
        {"spec": spec, TRAINING_ROWS: packed},
        {"spec": spec, TRAINING_ROWS: pack_rows("2")},
        {"spec": spec},
    )
    assert recorded_rows({"parts": [other, one]}) == {"tuned:a": packed}
    assert recorded_rows({"parts": [one, two]}) == {"tuned:a": pack_rows("12")}, "at two variants, or layers"
    assert recorded_rows({"parts": [lost, one]}) == {"tuned:a": None}, "one part that is not known decides"


def test_hashes_are_not_shown():
    inner = {"spec": {}, TRAINING_ROWS: "x"}
    assert leave_out_rows({"a": 1, TRAINING_ROWS: "x", "parts": [inner]}) == {"a": 1, "parts": [{"spec": {}}]}
