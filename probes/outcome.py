"""Outcomes: what a study or a comparison came to, as it is shown at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurestore.extraction import ExtractionReport


@dataclass(frozen=True)
class Outcome:
    """What a study came to.

    Attributes:
        tables: Result tables as plain text, one for each dataset.
        files: What was written: name -> path.
        heads: Saved heads: id -> what it is.
        extractions: What was embedded, and what it cost.
        seconds: Wall time of each stage.
        unreadable: sample id -> reason, of all images that could not be read.
    """

    tables: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    extractions: tuple[ExtractionReport, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
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
