"""Tables as text, as LaTeX and as CSV."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest

from probes.results.tables import Table, align_cells, show_cell, to_columns, to_csv, to_latex, to_text, write_csv

HOSTILE = pd.DataFrame(
    {"=name": ["=1+1", "\x1b[2J", "-"], "F1": [-0.5, 0.25, np.nan], "kind": [r"\input{x}", "a", "b"]}
)


def test_columns_are_aligned():
    frame = pd.DataFrame({"head": ["linear", "knn"], "F1": ["0.8", "-"]})
    assert to_columns(frame).splitlines() == ["head    F1", "-----------", "linear  0.8", "knn     -"]
    assert align_cells([["a", "b"], ["long", "c"]]) == ["a     b", "long  c"]
    assert to_text(Table("Two heads.", frame)) == f"Two heads.\n\n{to_columns(frame)}"
    assert to_columns(frame.iloc[:0]).splitlines() == ["head  F1", "--------"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (np.float64(-0.5), "-0.5"),
        (12345.678, "12,346"),
        (1e30, "1e+30"),
        (float("nan"), "nan"),
        (2024, "2024"),
        ("a", "a"),
        (True, "True"),
    ],
)
def test_numbers_are_shown_to_four_digits(value, text):
    assert show_cell(value) == text


def test_latex_escapes_captions_names_and_cells():
    text = to_latex(Table("50 % of my_set", pd.DataFrame({"my_head": ["a&b", "100 %", r"\input{x}"]})))
    assert r"\caption{50 \% of my\_set}" in text
    assert r"my\_head" in text
    assert r"a\&b" in text
    assert r"100 \%" in text
    assert r"\textbackslash{}input\{x\}" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_names_do_not_steer_the_terminal():
    text = to_text(Table("\x1b[31m", HOSTILE))
    assert "\x1b" not in text
    assert r"\x1b[2J" in text


def test_a_csv_file_has_no_formulas_and_all_numbers(tmp_path):
    write_csv(HOSTILE, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == to_csv(HOSTILE)
    rows = list(csv.reader(to_csv(HOSTILE).splitlines()))
    assert rows[0] == ["'=name", "F1", "kind"]
    assert rows[1] == ["'=1+1", "-0.5", r"\input{x}"]
    assert rows[3][0] == "-"
    assert list(HOSTILE.columns) == ["=name", "F1", "kind"], "the frame itself is untouched"


@pytest.mark.parametrize("dtype", ["object", "string", "category"])
def test_every_kind_of_text_is_escaped(dtype):
    assert to_csv(pd.DataFrame({"a": pd.Series(["=1", "b"], dtype=dtype)})) == "a\n'=1\nb\n"


def test_equal_names_of_columns_stay_apart():
    frame = pd.DataFrame([["=1", "=2"]], columns=["a", "a"])
    assert to_csv(frame) == "a,a\n'=1,'=2\n"
