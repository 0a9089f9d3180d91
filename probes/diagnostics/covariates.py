"""Covariates: quantities of each image, measured from it or the user's own, that features may follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from featurestore.errors import UsageError
from featurestore.samples import SampleTable

SAMPLE_ID = "sample_id"


def read_columns(path: Path) -> pd.DataFrame:
    """The user's own quantities: a CSV file with ``sample_id`` and columns of numbers; empty cells are unknown.

    Raises:
        UsageError: The file cannot be read, lacks ``sample_id`` or other columns, repeats an id, or holds text.
    """
    hint = f"Give a CSV file with {SAMPLE_ID} and at least one column of numbers."
    try:
        frame = pd.read_csv(path, dtype={SAMPLE_ID: str})
    except (OSError, ValueError) as error:
        raise UsageError(f"the columns cannot be read: {error}", where=path, hint=hint) from error
    if SAMPLE_ID not in frame or len(frame.columns) < 2:
        raise UsageError(f"no {SAMPLE_ID} or no other column", where=path, hint=hint)
    if frame[SAMPLE_ID].duplicated().any():
        raise UsageError("a sample id occurs more than once", where=path, hint=hint)
    quantities = frame.drop(columns=SAMPLE_ID)
    if text := list(quantities.select_dtypes(exclude="number").columns):
        raise UsageError(f"no numbers in {', '.join(text)}", where=path, hint=hint)
    return pd.concat([frame[[SAMPLE_ID]], quantities.astype(np.float64)], axis=1)


def join_columns(measured: pd.DataFrame | None, columns: pd.DataFrame, table: SampleTable) -> pd.DataFrame:
    """Measured quantities and the user's own, a line for each image that has any.

    Raises:
        UsageError: No id of the columns is one of the dataset, or a column has the name of a measured quantity.
    """
    if not set(columns[SAMPLE_ID]) & set(table.sample_ids):
        raise UsageError(
            "no sample id of the columns is one of the dataset",
            where=table.name,
            hint=f"Write ids like {table.sample_ids[0]!r}.",
        )
    if measured is None:
        return columns
    if twice := sorted((set(measured.columns) & set(columns.columns)) - {SAMPLE_ID}):
        raise UsageError(f"the image itself gives {', '.join(twice)}", where="columns", hint="Rename these columns.")
    return measured.merge(columns, on=SAMPLE_ID, how="outer")
