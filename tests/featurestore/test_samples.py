from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import DatasetError, LabelMismatchError, UnknownNameError
from featurestore.samples import Boxes, SampleTable

MakeTable = Callable[..., SampleTable]


def boxes_of(rows: list[int]) -> Boxes:
    """One box a row, which can be told by its corner."""
    n = len(rows)
    xyxy = np.array([[number, row, number + 1, row + 1] for number, row in enumerate(rows)], dtype=np.float32)
    return Boxes(np.array(rows, dtype=np.int64), xyxy.reshape(-1, 4), np.zeros(n, np.int64), np.zeros(n, np.bool_))


def test_the_first_scheme_is_the_default(make_table: MakeTable) -> None:
    table = make_table()
    assert table.schemes == ("peaks", "has/bar?")
    assert table.scheme() == "peaks"
    assert table.scheme("has/bar?") == "has/bar?"
    with pytest.raises(UnknownNameError, match=r"unknown label scheme 'peak'.*Did you mean peaks"):
        table.scheme("peak")


def test_a_dataset_without_labels_says_so(make_table: MakeTable) -> None:
    with pytest.raises(LabelMismatchError, match=r"the dataset has no labels \[galaxies\]"):
        make_table(labels={}, classes={}).scheme()


def test_ids_are_unique(make_table: MakeTable) -> None:
    with pytest.raises(DatasetError, match="sample ids occur more than once: b, c"):
        make_table(["b", "a", "c", "b", "c"])


@pytest.mark.parametrize("column", ["splits", "fingerprints", "groups"])
def test_columns_are_as_long_as_the_ids(make_table: MakeTable, column: str) -> None:
    short = {"splits": np.array(["train"]), "fingerprints": np.zeros(1, np.uint64), "groups": np.array(["a"])}
    with pytest.raises(LabelMismatchError, match=f"1 values of '{column}' for 3 images"):
        make_table(3, **{column: short[column]})


def test_labels_are_as_many_as_the_ids(make_table: MakeTable) -> None:
    with pytest.raises(LabelMismatchError, match="2 values of 'peaks' for 3 images"):
        make_table(3, labels={"peaks": np.array([0, 1])}, classes={"peaks": ("one", "two")})


@pytest.mark.parametrize("label", [-2, 2])
def test_labels_index_their_classes(make_table: MakeTable, label: int) -> None:
    with pytest.raises(LabelMismatchError, match="labels of scheme 'peaks' lie outside its 2 classes"):
        make_table(2, labels={"peaks": np.array([0, label])}, classes={"peaks": ("one", "two")})


def test_a_scheme_needs_classes(make_table: MakeTable) -> None:
    with pytest.raises(LabelMismatchError, match="outside its 0 classes"):
        make_table(1, labels={"peaks": np.array([0])}, classes={})


def test_splits_have_fixed_names(make_table: MakeTable) -> None:
    with pytest.raises(DatasetError, match=r"unknown splits \['val'\]"):
        make_table(2, splits=np.array(["train", "val"]))


def test_take_reorders_every_column(make_table: MakeTable) -> None:
    table = make_table(10, boxes=True)
    part = table.take(np.array([7, 2]))
    assert part.sample_ids == (table.sample_ids[7], table.sample_ids[2])
    assert part.fingerprints.tolist() == table.fingerprints[[7, 2]].tolist()
    assert part.splits.tolist() == table.splits[[7, 2]].tolist()
    for scheme, labels in part.labels.items():
        assert labels.tolist() == table.labels[scheme][[7, 2]].tolist()
    assert part.groups is not None
    assert table.groups is not None
    assert part.groups.tolist() == table.groups[[7, 2]].tolist()
    assert part.boxes is not None
    assert table.boxes is not None
    np.testing.assert_array_equal(part.boxes.of(0), table.boxes.of(7))
    np.testing.assert_array_equal(part.boxes.of(1), table.boxes.of(2))


def test_boxes_of_a_sample_leave_out_crowds() -> None:
    boxes = Boxes(
        np.array([0, 0, 1]),
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.zeros(3, np.int64),
        np.array([True, False, False]),
    )
    assert boxes.of(0).tolist() == [[4, 5, 6, 7]]
    assert boxes.of(2).shape == (0, 4)


@given(st.lists(st.integers(0, 5), max_size=12), st.permutations(range(6)), st.integers(0, 6))
def test_boxes_follow_their_samples(rows: list[int], order: list[int], n: int) -> None:
    boxes, kept = boxes_of(rows), np.array(order[:n], dtype=np.int64)
    part = boxes.take(kept)
    for new, old in enumerate(kept.tolist()):
        np.testing.assert_array_equal(part.of(new), boxes.of(old))
    assert len(part.row) == sum(row in order[:n] for row in rows)


@pytest.mark.parametrize(
    "change", [{"version": 1}, {"ids": ["sky/é001.png", "sky/é000.png"]}, {"ids": ["sky/é000.pngsky/", "é001.png"]}]
)
def test_the_fingerprint_sees_ids_order_and_fingerprints(make_table: MakeTable, change: dict[str, Any]) -> None:
    ids = change.pop("ids", 2)
    assert make_table(ids, **change).fingerprint != make_table(2).fingerprint


def test_the_fingerprint_does_not_see_labels(make_table: MakeTable) -> None:
    other = make_table(2, labels={}, classes={}, splits=np.array(["", ""]), name="else")
    assert other.fingerprint == make_table(2).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"splits": np.array(["test", "valid"])},
        {"labels": {"peaks": np.array([1, 0])}},
        {"classes": {"peaks": ("1", "2")}},
        {"groups": np.array(["a", "a"])},
    ],
)
def test_the_label_digest_sees_all_that_decides_a_probe(make_table: MakeTable, change: dict[str, Any]) -> None:
    fields = {"labels": {"peaks": np.array([0, 1])}, "classes": {"peaks": ("one", "two")}}
    before, after = make_table(2, **fields), make_table(2, **(fields | change))
    assert before.label_digest() == make_table(2, **fields).label_digest()
    assert before.label_digest() != after.label_digest()


def test_the_label_digest_does_not_see_other_schemes_or_fingerprints(make_table: MakeTable) -> None:
    table, other = make_table(2), make_table(2, version=1)
    assert table.label_digest("peaks") == other.label_digest("peaks") != table.label_digest("has/bar?")


@pytest.mark.parametrize("text", ["a\0", "\ud800", "\0"])
@pytest.mark.parametrize("field", ["sample_ids", "classes", "groups", "box_classes"])
def test_text_that_would_not_come_back(make_table: MakeTable, field: str, text: str) -> None:
    table = make_table(2)
    changes = {
        "sample_ids": {"sample_ids": ("x", text)},
        "classes": {"classes": {scheme: (text, *names[1:]) for scheme, names in table.classes.items()}},
        "groups": {"groups": np.array(["", f"{text}b"])},
        "box_classes": {"box_classes": (text,)},
    }
    with pytest.raises(DatasetError, match="is not Unicode text, or holds a NUL"):
        replace(table, **changes[field])


def test_fingerprints_follow_the_boxes_of_each_sample() -> None:
    """The oracle hashes the boxes of one sample after the other, as older stores did."""
    rng = np.random.default_rng(0)
    row = rng.integers(0, 6, 20)
    boxes = Boxes(row, rng.random((20, 4), dtype=np.float32), np.zeros(20, np.int64), rng.random(20) < 0.3)
    ids, none = tuple("abcdefg"), np.array([""] * 7)
    table = SampleTable("sky", ids, {}, {}, none, np.arange(7, dtype=np.uint64), boxes=boxes)
    marks = [hashlib.blake2b(boxes.of(number).tobytes(), digest_size=8).digest() for number in range(7)]
    expected = [number ^ int.from_bytes(mark, "little") for number, mark in enumerate(marks)]
    assert table.box_fingerprints.tolist() == expected
    assert replace(table, boxes=None).box_fingerprints.tolist() == list(range(7))
