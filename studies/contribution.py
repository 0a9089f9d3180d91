"""Contributions: what methods other than probes add to the report of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurestore.reporter import Reporter
    from featurestore.store import FeatureStore
    from probes.plotting import CaptionedFigure
    from probes.results.run import Run
    from probes.results.tables import Table


@dataclass(frozen=True)
class Contribution:
    """What other methods came to.

    Attributes:
        runs: Runs that stand in the tables of the probes.
        tables: Tables of what has other metrics.
        captioned_figures: Figures of it.
        files: What was written: name -> path.
        unreadable: sample id -> reason, of images that could not be read.
    """

    runs: Sequence[Run] = ()
    tables: Sequence[Table] = ()
    captioned_figures: Sequence[CaptionedFigure] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


OtherMethods = Callable[["FeatureStore", Mapping[str, Sequence[str]], Path, "Reporter"], Contribution]
"""From a store, dataset -> label schemes, the folder of the study and whoever shows progress."""


def contribute_nothing(
    _store: FeatureStore, _schemes: Mapping[str, Sequence[str]], _output: Path, _reporter: Reporter
) -> Contribution:
    """Probes alone."""
    return Contribution()
