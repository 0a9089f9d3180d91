"""What the diagnostics of the features of one dataset found, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featurestore.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

FEWEST_ROWS = 3
"""Images without which nothing here means anything."""

IDENTITY = ("backbone", "variant", "pooling", "key")
"""Columns that tell the feature matrices of one dataset apart."""


FRAMES = ("measures", "spectra", "alignments", "covariates", "flagged")
"""Tables of `Diagnostics`."""


@dataclass(frozen=True)
class DiagnosticsOptions:
    """Options of the diagnostics.

    Attributes:
        rows: Rows of the sample that all but duplicates, leaks and outliers are taken from.
        threshold: Cosine similarity from which on two images are duplicates; None: from the data.
        outliers: Outliers that are listed.
        seed: Seed of the sample and of the folds.
    """

    rows: int = 8192
    threshold: float | None = None
    outliers: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows < FEWEST_ROWS or self.outliers < 0 or not -1 <= (self.threshold or 0) <= 1:
            raise UsageError(
                "an option of the diagnostics is out of its range",
                where=f"rows={self.rows}, outliers={self.outliers}, threshold={self.threshold}",
                hint=f"Give rows >= {FEWEST_ROWS}, outliers >= 0 and a cosine similarity in [-1, 1].",
            )


@dataclass(frozen=True)
class Diagnostics:
    """What was found. Every table but `alignments` begins with the columns `IDENTITY`.

    Attributes:
        dataset: Name of the dataset.
        scheme: Label scheme; None for a dataset without labels.
        options: What was asked for.
        measures: A line for each feature matrix and ``measure``: ``value`` (NaN: not defined here), ``rows`` (number of
            images it was taken from) and ``of`` (which: ``sample``, ``training rows``, ``all``).
        spectra: A line for each singular value, the largest first: ``component`` from 1, ``share`` of their sum.
        alignments: A line for each pair of feature matrices: ``first``, ``second`` (their names), ``cka``,
            ``debiased``, ``rows``.
        covariates: A line for each feature matrix and quantity, as in `probes.diagnostics.explanation.explain`.
        flagged: A line for each flagged sample, as in `probes.diagnostics.flagged.list_flagged`.
        unreadable: Sample id -> reason, of images without features.
        split: Where the parts of the rows come from, see `probes.sweep.splits.describe_parts`.
    """

    dataset: str
    scheme: str | None
    options: DiagnosticsOptions
    measures: pd.DataFrame
    spectra: pd.DataFrame
    alignments: pd.DataFrame
    covariates: pd.DataFrame
    flagged: pd.DataFrame
    unreadable: Mapping[str, str] = field(default_factory=dict)
    split: str = ""

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables by name."""
        return {name: getattr(self, name) for name in FRAMES}
