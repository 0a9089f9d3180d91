"""The report of a study as a whole, and what it says of features and extractions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.store.features import FeatureSet
from featurestore.training_rows import leave_out_rows
from probes.plotting import CaptionedFigure, save_figure
from probes.projection import Projection
from probes.results.run import Run
from studies.images.gallery import Gallery
from studies.report.captioned_figures import study_figures
from studies.report.html import Facts, Table, write_report
from studies.report.projections import name_features
from studies.report.runs import headline, order_subjects, probe_figures, table

if TYPE_CHECKING:
    from featurestore.extraction.extract import ExtractionReport


def write_study_report(
    folder: Path,
    *,
    title: str,
    runs: Sequence[Run],
    features: Sequence[FeatureSet],
    projections: Sequence[Projection] = (),
    galleries: Sequence[Gallery] = (),
    tables: Sequence[Table] = (),
    captioned_figures: Sequence[CaptionedFigure] = (),
    extractions: Sequence[ExtractionReport] = (),
    scheme: str | None = None,
    commands: Sequence[str] = (),
) -> Path:
    """Write ``report.html``, and its figures as PDF, SVG and PNG into ``figures``.

    Args:
        folder: Made if need be.
        title: Title of the study.
        runs: At least one run.
        features: The feature matrices behind the runs.
        projections: One for each of `features` in the same order, or none.
        galleries: Random images, one gallery for each dataset.
        tables: More tables, below those of the runs.
        captioned_figures: More figures, behind those of the runs.
        extractions: What the extractions did and cost.
        scheme: Label scheme that colours the projections; None: the default of each dataset.
        commands: Commands that made the report.

    Returns:
        Path of the HTML file.

    Raises:
        StoreWriteError: The folder cannot be written.
    """
    study = study_figures(runs, features=features, projections=projections, galleries=galleries, scheme=scheme)
    figures = [*study, *probe_figures(runs), *captioned_figures]
    for drawn in figures:
        save_figure(drawn.figure, folder / "figures", drawn.name)
    return write_report(
        folder / "report.html",
        title=title,
        headlines=[headline(part) for part in order_subjects(runs)],
        tables=[*(table(part) for part in order_subjects(runs)), *tables],
        figures=figures,
        provenance=provenance(features),
        cost=cost(extractions),
        unreadable=unreadable(features),
        notices=[matrix.table.notice for matrix in features],
        commands=commands,
    )


def provenance(features: Iterable[FeatureSet]) -> dict[str, Facts]:
    """The key in full and where the features come from, for each feature matrix."""
    return {
        f"{matrix.table.name}: {name_features(matrix)}, {matrix.pooling}, {matrix.key.short}": {
            "sha256": matrix.key.sha256,
            "rows": len(matrix.values),
            "features": matrix.values.shape[1],
            **matrix.key.to_dict(),
            "provenance": leave_out_rows(matrix.provenance),
        }
        for matrix in features
    }


def unreadable(features: Iterable[FeatureSet]) -> dict[str, dict[str, str]]:
    """Dataset -> sample id -> reason."""
    found: dict[str, dict[str, str]] = {}
    for matrix in features:
        found.setdefault(matrix.table.name, {}).update(matrix.unreadable)
    return found


def cost(extractions: Iterable[ExtractionReport]) -> dict[str, Facts]:
    """Seconds and rates of each extraction that embedded something; phases after loading are summed over workers."""
    return {
        f"extraction of {report.dataset}": {
            "images decoded": report.costs.images,
            "images forwarded": report.costs.forwards,
            "wall time, s": report.seconds,
            "load models, s": report.costs.load,
            "decode, s": report.costs.decode,
            "preprocess, s": report.costs.preprocess,
            "forward, s": report.costs.forward,
            "write, s": report.costs.write,
            "forwards a second of wall time": report.costs.forwards / report.seconds,
        }
        for report in extractions
        if report.costs.images
    }
