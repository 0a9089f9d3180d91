"""Tables as text and as LaTeX."""

from __future__ import annotations

import pandas as pd

from probes.results.tables import Table, to_columns, to_latex


def test_columns_are_aligned():
    frame = pd.DataFrame({"head": ["linear", "knn"], "F1": ["0.8", "-"]})
    assert to_columns(frame).splitlines() == ["head    F1", "-----------", "linear  0.8", "knn     -"]


def test_latex_escapes_captions_names_and_cells():
    text = to_latex(Table("50 % of my_set", pd.DataFrame({"my_head": ["a&b", "100 %"]})))
    assert r"\caption{50 \% of my\_set}" in text
    assert r"my\_head" in text
    assert r"a\&b" in text
    assert r"100 \%" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
