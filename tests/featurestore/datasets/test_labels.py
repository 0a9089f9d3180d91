from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.datasets.labels import (
    as_text,
    encode_groups,
    encode_indices,
    encode_labels,
    is_missing,
    normalise_split,
    scheme_fields,
    sort_classes,
    unify,
)

WORDS = (
    st.text("abcäß_ é", min_size=1, max_size=4).map(str.strip).filter(bool).filter(lambda word: not is_missing(word))
)


@given(st.lists(st.none() | WORDS))
def test_labels_index_their_classes(names: list[str | None]) -> None:
    labels, classes, missing = encode_labels(names)
    assert [None if label == -1 else classes[label] for label in labels] == names
    assert set(classes) == set(names) - {None}
    assert len(set(classes)) == len(classes)
    assert labels.dtype == np.int64
    assert missing.total() == names.count(None)


@given(st.lists(st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=3), st.booleans(), st.binary())))
def test_whatever_is_read_becomes_labels_or_a_decoding_error(values: list[object]) -> None:
    try:
        labels, classes, missing = encode_labels(values)
    except UnicodeDecodeError:
        return
    assert int((labels == -1).sum()) == missing.total()
    assert set(labels.tolist()) - {-1} == set(range(len(classes)))
    assert not any(is_missing(name) for name in classes)


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=0, max_value=50), min_size=1))
def test_numbers_are_compared_as_numbers_and_sorted_by_value(numbers: list[Decimal]) -> None:
    """However a number is written, it is one class; the oracle compares decimals."""
    written = [f"{one:f}" for one in numbers] + [f"+{one.normalize():f}" for one in numbers]
    labels, classes, _ = encode_labels(written)
    assert [Decimal(name) for name in classes] == sorted({*numbers})
    assert labels[: len(numbers)].tolist() == labels[len(numbers) :].tolist()


def test_numbers_come_before_words() -> None:
    assert encode_labels(["b", "10", "9", "a", None, "-2", "9.5", "1e1"]).classes == ("-2", "9", "9.5", "10", "a", "b")


def test_a_column_of_integers_that_became_floats_has_the_same_classes() -> None:
    assert unify(["1", "1.0", "2.0", "2.50", "007", "7.", "+3"]) == ["1", "1", "2", "2.5", "7", "7", "3"]
    assert unify(["01", "02", "1_2", "1-2P"]) == ["01", "02", "1_2", "1-2P"]  # codes stay as they are
    assert unify([".0", "-.0", "0"]) == ["0", "0", "0"]


@pytest.mark.parametrize("digits", [400, 5000, 200_000])
def test_enormous_numbers(digits: int) -> None:
    big, bigger = "1" * digits, "2" * digits
    assert encode_labels([bigger, "5", "1e99999", big]).classes[0] == "5"
    assert sort_classes([bigger, big]) == (big, bigger)


@pytest.mark.parametrize(
    "value",
    ["", " ", None, "nan", "NaN", "NAN", "NA", "N/A", "<NA>", "None", "null", "--", "-1", "-1.0", " -1 ", -1, -1.0, b"",
     r"\N", "NaT", "#N/A", "1.#QNAN",
     float("nan"), np.nan, np.ma.masked, b"NaN"],
)  # fmt: skip
def test_missing_values_are_no_classes(value: object) -> None:
    labels, classes, missing = encode_labels(["a", value, "b"])
    assert (labels.tolist(), classes) == ([0, -1, 1], ("a", "b"))
    assert missing.total() == 1


@pytest.mark.parametrize("name", ["nano", "Nancy", "-10", "-11", "-1a", "0", "none at all", "n.a"])
def test_other_names_are_classes(name: str) -> None:
    assert encode_labels([name]).classes == (name,)


def test_what_pandas_writes_for_missing_values_is_missing() -> None:
    """Outside oracle: every text that `pandas.read_csv` takes for missing by default, apart from Windows' own."""
    from pandas._libs.parsers import STR_NA_VALUES

    strange = {text for text in STR_NA_VALUES if "#" in text}
    assert [text for text in STR_NA_VALUES - strange if not is_missing(text)] == []
    assert pd.isna(pd.NA) and is_missing(str(pd.NA))


def test_a_class_that_is_really_called_so() -> None:
    assert encode_labels(["NA", "SA", "nan", "-1.0"], keep="NA").classes == ("NA", "SA")
    assert encode_labels(["NA", "-1.0"], keep=("NA", "-1")).classes == ("-1", "NA")


def test_the_notice_counts_what_is_missing_and_says_how_to_keep_it() -> None:
    fields = scheme_fields({"bar": encode_labels(["a", "nan", "nan", "NA", ""]), "full": encode_labels(["a"])})
    assert fields["notice"] == (
        "bar: 4 of 5 samples have no label (1 empty, 1 NA, 2 nan). "
        "Where that is the name of a class, end DATA by ,keep=nan+NA"
    )
    assert list(fields["labels"]) == list(fields["classes"]) == ["bar", "full"]
    assert (
        scheme_fields({"bar": encode_labels(["a", None])})["notice"] == "bar: 1 of 2 samples have no label (1 empty)."
    )


def test_named_classes_keep_their_order_and_lose_missing_ones() -> None:
    encoded = encode_indices([2, 1, 0, None, -1, 1], ["star", "N/A", "galaxy"])
    assert encoded.labels.tolist() == [1, -1, 0, -1, -1, -1]
    assert encoded.classes == ("star", "galaxy")
    assert encoded.missing == {"": 2, "N/A": 2}
    assert encode_indices([1], ["star", "NA"], keep="NA").classes == ("star", "NA")
    assert encode_indices([7], ["star", "NA"]).labels.tolist() == [7]  # the table refuses it


def test_missing_groups_are_none() -> None:
    groups, notice = encode_groups(["g1", "nan", None, "-1", "1", "1.0"])
    assert groups.tolist() == ["g1", "", "", "", "1", "1"]
    assert notice == "group: 3 of 6 samples belong to no group (1 empty, 1 -1, 1 nan)."
    assert encode_groups(["a", "b"])[1] == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train", "train"),
        (" Val ", "valid"),
        ("validation", "valid"),
        ("TEST", "test"),
        (None, ""),
        ("nan", ""),
        (b"test", "test"),
        ("hold", "hold"),
    ],
)
def test_splits(text: object, expected: str) -> None:
    assert normalise_split(text) == expected


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (0.5, "0.5"), (b" x ", "x"), (True, "True"), ("", None)])
def test_values_as_text(value: object, text: str | None) -> None:
    assert as_text(value) == text
