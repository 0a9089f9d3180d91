"""What the report says of runs, features, projections and extractions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from featurestore.store.features import FeatureSet
from featurestore.store.layout.names import escape
from featurestore.training_rows import leave_out_rows
from probes.plotting import CaptionedFigure, save_figure
from probes.projection import Projection
from probes.results.run import COMPARED, Run, describe, summarise, wide_table
from studies.figures.latent import umap_panels
from studies.figures.scores import confusion, confusion_counts, f1_by_fraction, per_class_f1
from studies.figures.series import by_subject, subject_of
from studies.images.gallery import Gallery
from studies.report.captioned_figures import study_figures
from studies.report.html import Facts, Table, write_report

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


def order_subjects(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs that may be in one table, by dataset and label scheme in alphabetical order."""
    return sorted(by_subject(runs), key=lambda part: subject_of(part[0]))


def best_runs(runs: Sequence[Run]) -> list[Run]:
    """Runs of the head with the highest mean macro-F1 at the largest share of labels; the first of equals."""
    return max(_heads(runs), key=lambda part: fmean(run.scores.macro["f1"] for run in part))


def headline(runs: Sequence[Run]) -> str:
    """The best result on one dataset as a sentence, with its runs, interval and number of test images."""
    best = best_runs(runs)
    first, values = best[0], [run.scores.macro["f1"] for run in best]
    among = len(_heads(runs))
    chosen = f" It is the best of {among} heads, chosen by these same test images." if among > 1 else ""
    return (
        f"{first.dataset} ({first.scheme}): macro-F1 {fmean(values):.3f} [{min(values):.3f}-{max(values):.3f}] "
        f"by the head {first.head} on {first.backbone}, {first.variant}, with {first.fraction} % of the labels; "
        f"mean [min-max] of {len(best)} run{'s' * (len(best) > 1)} on {len(first.truth):,} test images.{chosen}"
    )


def table(runs: Sequence[Run]) -> Table:
    """Summary of the runs on one dataset."""
    summary = summarise(runs)
    return Table(" ".join(describe(summary)), wide_table(summary))


def probe_figures(runs: Sequence[Run]) -> list[CaptionedFigure]:
    """Scores by label fraction, scores by class, and the confusion matrix of the best head, for each dataset."""
    captioned_figures = []
    for part in order_subjects(runs):
        first, best = part[0], best_runs(part)
        stem, largest = escape(f"{first.dataset}-{first.scheme}"), best[0].fraction
        seeds = len({run.seed for run in part})
        over = f"over {seeds} run{'s' * (seeds > 1)} with different seeds"
        rows = f"{first.dataset} ({first.scheme}), {len(first.truth):,} test images"
        captioned_figures += [
            CaptionedFigure(
                f"{stem}-f1-by-fraction",
                f1_by_fraction(part),
                f"Macro-F1 against the share of the training labels: {rows}. Marks are means, bars go from the minimum "
                f"to the maximum {over}.",
                f"Line chart of macro-F1 against the share of labels for {rows}. The table gives its numbers.",
            ),
            CaptionedFigure(
                f"{stem}-f1-by-class",
                per_class_f1(part),
                f"F1 of each class with {largest} % of the training labels: {rows}. Dots are means, bars go from the "
                f"minimum to the maximum {over}.",
                f"Dot chart of the F1 of each class for {rows}.",
            ),
            CaptionedFigure(
                f"{stem}-confusion",
                confusion(best),
                f"Confusion matrix of the head {best[0].head} on {best[0].backbone}, {best[0].variant}, with {largest} "
                f"% of the training labels: {rows}, summed over {len(best)} run{'s' * (len(best) > 1)}. Percent are "
                "shares of the true class; below them are the counts.",
                f"Confusion matrix for {rows}. Correct: {_correct(best)}.",
            ),
        ]
    return captioned_figures


def projection_figures(
    features: Sequence[FeatureSet], projections: Sequence[Projection], scheme: str | None = None
) -> list[CaptionedFigure]:
    """UMAP coloured by class, a figure for each dataset and a panel for each of its feature matrices."""
    pairs = sorted(zip(features, projections, strict=bool(projections)), key=lambda pair: pair[0].table.name)
    return [
        _projection_figure(name, list(part), scheme)
        for name, part in groupby(pairs, key=lambda pair: pair[0].table.name)
    ]


def provenance(features: Iterable[FeatureSet]) -> dict[str, Facts]:
    """The key in full and where the features come from, for each feature matrix."""
    return {
        f"{matrix.table.name}: {_name(matrix)}, {matrix.pooling}, {matrix.key.short}": {
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


def _heads(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs at the largest share of labels, one list for each head on each features."""
    largest = max(run.fraction for run in runs)
    heads: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        if run.fraction == largest:
            heads.setdefault(tuple(getattr(run, name) for name in COMPARED), []).append(run)
    return list(heads.values())


def _correct(runs: Sequence[Run]) -> str:
    """Share of each true class that was predicted as such."""
    counts = confusion_counts(runs)
    shares = [f"{counts[i, i] / max(1, counts[i].sum()):.0%}" for i in range(len(counts))]
    return ", ".join(f"{name} {share}" for name, share in zip(runs[0].classes, shares, strict=True))


def _projection_figure(
    name: str, pairs: Sequence[tuple[FeatureSet, Projection]], scheme: str | None
) -> CaptionedFigure:
    table, parameters = pairs[0][0].table, pairs[0][1].parameters
    scheme = table.scheme(scheme)
    panels = {_title(pairs, matrix): (made.xy, matrix.table.labels[scheme]) for matrix, made in pairs}
    explained = " and ".join(f"{made.explained.sum():.0%}" for _, made in pairs)
    return CaptionedFigure(
        escape(f"{name}-umap"),
        umap_panels(panels, table.classes[scheme], dataset=name),
        f"UMAP (n_neighbors {parameters['n_neighbors']}, min_dist {parameters['min_dist']}, seed {parameters['seed']}) "
        f"of the first {pairs[0][1].pca.shape[1]} principal components, which explain {explained} of the variance. "
        f"{name}, coloured by class ({scheme}); labels were not used to make it. Of an unbalanced set, a random "
        "class-balanced sample is shown.",
        f"Scatter plots of {name} in two dimensions, coloured by class: {'; '.join(panels)}.",
    )


def _title(pairs: Sequence[tuple[FeatureSet, Projection]], matrix: FeatureSet) -> str:
    """Backbone and variant; with pooling and key where these alone would name two panels."""
    alike = [other for other, _ in pairs if _name(other) == _name(matrix)]
    return _name(matrix) if len(alike) == 1 else f"{_name(matrix)}, {matrix.pooling}, {matrix.key.short}"


def _name(matrix: FeatureSet) -> str:
    return f"{matrix.backbone}, {matrix.variant}"
