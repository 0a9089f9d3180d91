"""Test images that have a duplicate among the images that a head learns from."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes.diagnostics.duplicates import LEARNT, Duplicates


def find_leaks(duplicates: Duplicates, parts: NDArray[np.str_]) -> pd.DataFrame:
    """Test rows that have a duplicate among the rows that a head learns from.

    Args:
        duplicates: Of n rows, found with these parts.
        parts: Part of each row: ``train``, ``valid``, ``test`` or empty, (n,).

    Returns:
        A line for each such test row with its closest partner: ``test`` and ``train`` (rows; validation rows count as
        training), ``similarity``; sorted by similarity.
    """
    rows = pd.DataFrame({"row": np.arange(len(parts)), "kind": duplicates.kind, "part": parts})
    learnt = rows[rows["part"].isin(LEARNT)].drop_duplicates("kind")
    kinds = np.unique(duplicates.kind)
    own = pd.DataFrame({"first": kinds, "second": kinds, "similarity": 1.0})
    leaks = (
        pd.concat([own, duplicates.crossing])
        .merge(rows[rows["part"] == "test"].rename(columns={"row": "test", "kind": "first"})[["first", "test"]])
        .merge(learnt.rename(columns={"row": "train", "kind": "second"})[["second", "train"]])
    )
    ordered = leaks.sort_values(["similarity", "test", "train"], ascending=[False, True, True])
    return ordered.drop_duplicates("test")[["test", "train", "similarity"]].reset_index(drop=True)
