"""What a study or a comparison came to, as it is shown at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from featurestore.extraction.extract import ExtractionReport
from featurestore.reporter import StageResult


@dataclass(frozen=True, kw_only=True)
class StudyResult(StageResult):
    """What a study came to.

    Attributes:
        heads: Saved heads: id -> what it is.
        extractions: What was embedded, and what it cost.
    """

    heads: Mapping[str, str] = field(default_factory=dict)
    extractions: tuple[ExtractionReport, ...] = ()


@dataclass(frozen=True)
class ComparisonResult:
    """What a comparison of runs came to.

    Attributes:
        dataset: Name of the dataset.
        scheme: Label scheme.
        tables: Captions and tables as plain text.
        remarks: Sentences: labels that a score needs, runs that were left out.
        rows: Rows in full, by name of the table; None for what is not known, or infinite.
        files: What was written: name -> path.
    """

    dataset: str
    scheme: str
    tables: tuple[str, ...]
    remarks: tuple[str, ...]
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    files: Mapping[str, Path] = field(default_factory=dict)


class Clock:
    """Wall time of named stages, in the order in which they ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure the block below as this stage."""
        started = perf_counter()
        yield
        self.seconds[stage] = perf_counter() - started
