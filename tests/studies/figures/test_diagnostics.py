"""Figures of diagnostics show the numbers that they are given."""

import numpy as np
import pandas as pd

from studies.figures.diagnostics import TILES, flagged_sheet, heat_map, rank_spectrum


def test_spectra_are_curves_of_what_is_positive():
    shares = {"a": np.array([0.7, 0.3, 0.0]), "b": np.array([0.5, 0.5])}
    figure = rank_spectrum(shares, {"a": 1.8, "b": 2.0}, "toy")
    (axes,) = figure.axes
    curves = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_label()[0] in "ab"]
    assert [line.get_ydata().tolist() for line in curves] == [[0.7, 0.3], [0.5, 0.5]]
    assert [line.get_label() for line in curves] == ["a: 1.8", "b: 2.0"]
    ticks = [line.get_xdata()[0] for line in axes.lines if line not in curves]
    assert ticks == [1.8, 2.0]


def test_a_heat_map_writes_its_numbers_and_a_dash_for_none():
    cells = pd.DataFrame([[1.0, 0.25], [0.25, np.nan]], index=["a", "b"], columns=["a", "b"])
    axes = heat_map(cells, "CKA", "toy").axes[0]
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.25", "0.25", "-"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    np.testing.assert_array_equal(np.asarray(axes.images[0].get_array().filled(-1)), [[1, 0.25], [0.25, -1]])


def line(sample, other="", reason="outlier"):
    return {
        "reason": reason, "value": 2.0, "sample_id": sample, "other_id": other, "part": "train", "other_part": "test",
    }  # fmt: skip


def test_pairs_stand_side_by_side_in_one_row():
    lines = [line(f"o{n}") for n in range(TILES - 1)] + [line("first", "second", "leak")]
    read = []
    figure = flagged_sheet(pd.DataFrame(lines), lambda name: (read.append(name), np.zeros((4, 4, 3)))[1], "toy")
    assert read == [*(f"o{n}" for n in range(TILES - 1)), "first", "second"]
    places = [axes.get_subplotspec().num1 for axes in figure.axes]
    assert places == [*range(TILES - 1), TILES, TILES + 1], "a pair begins the next row where one tile is left"
    assert figure.axes[-1].get_title() == "train | test\nsecond"
