"""Flagged samples, by id: leaks, duplicates, outliers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.samples import SampleTable
from probes.diagnostics.duplicates import Duplicates
from probes.diagnostics.outliers import Outliers

COLUMNS = ("reason", "sample_id", "part", "label", "other_id", "other_part", "other_label", "value")
"""Columns of `list_flagged`."""

MOST = 10_000
"""Lines of one reason at most."""


def list_flagged(
    table: SampleTable,
    scheme: str | None,
    parts: NDArray[np.str_],
    leaks: pd.DataFrame,
    duplicates: Duplicates,
    outliers: Outliers,
) -> pd.DataFrame:
    """One line a finding: its `COLUMNS`, the worst first within each reason.

    ``value`` is the cosine similarity to the other image, 1 for equal features; for an outlier it is its distance to
    its neighbours over the median distance, and there is no other image.
    """
    rows = np.arange(len(table))
    equal = pd.DataFrame({"first": duplicates.kind, "second": rows, "similarity": 1.0})[duplicates.kind != rows][:MOST]
    found = [
        ("leak", leaks["test"], leaks["train"], leaks["similarity"]),
        ("equal", equal["second"], equal["first"], equal["similarity"]),
        ("close", duplicates.pairs["second"], duplicates.pairs["first"], duplicates.pairs["similarity"]),
    ]
    names = _names(table, scheme)
    lines = [_lines(reason, table, parts, names, one[:MOST], other[:MOST], values[:MOST])
             for reason, one, other, values in found]  # fmt: skip
    alone = _lines("outlier", table, parts, names, outliers.rows, outliers.rows, outliers.remoteness)
    alone[["other_id", "other_part", "other_label"]] = ""
    return pd.concat([*lines, alone], ignore_index=True)


def _lines(
    reason: str,
    table: SampleTable,
    parts: NDArray[np.str_],
    names: NDArray[np.object_],
    rows: NDArray[np.int64] | pd.Series[int],
    others: NDArray[np.int64] | pd.Series[int],
    values: NDArray[np.float64] | pd.Series[float],
) -> pd.DataFrame:
    columns: dict[str, object] = {"reason": [reason] * len(rows)}
    for prefix, some in (("", np.asarray(rows)), ("other_", np.asarray(others))):
        columns[f"{prefix}id" if prefix else "sample_id"] = [table.sample_ids[row] for row in some]
        columns[f"{prefix}part"], columns[f"{prefix}label"] = parts[some], names[some]
    return pd.DataFrame({**columns, "value": np.asarray(values)}, columns=list(COLUMNS))


def _names(table: SampleTable, scheme: str | None) -> NDArray[np.object_]:
    """Class name of each row; empty without a label."""
    if scheme is None:
        return np.full(len(table), "", dtype=object)
    names = np.array([*table.classes[scheme], ""], dtype=object)  # `UNLABELLED` is the last
    return names[table.labels[scheme]]
