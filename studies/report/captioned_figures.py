"""The figures of the study with their captions: Figures 1 to 5, B.1 and B.2, from whatever runs and features exist."""

from __future__ import annotations

from collections.abc import Sequence

from featurestore.store.features import FeatureSet
from featurestore.store.layout.names import escape
from probes.plotting import CaptionedFigure
from probes.projection import Projection
from probes.results.run import Run
from probes.statistics.learning_curve import LearningCurve
from probes.statistics.significance import METRICS
from studies.figures.comparisons import class_scores, learning_curves, scheme_scores
from studies.figures.curves import fitted_curves
from studies.figures.samples import describe_range, sample_grid
from studies.figures.scores import at_fraction
from studies.figures.series import Metric, by_subject, count_images, is_baseline, macro_series
from studies.images.gallery import Gallery
from studies.report.projections import latent_figure


def study_figures(
    runs: Sequence[Run],
    *,
    features: Sequence[FeatureSet] = (),
    projections: Sequence[Projection] = (),
    galleries: Sequence[Gallery] = (),
    scheme: str | None = None,
    head: str | None = None,
    variant: str | None = None,
) -> list[CaptionedFigure]:
    """The figures for which there is something to show, in the order of the study.

    Args:
        runs: Runs of any datasets, label schemes, heads and variants, those of trained networks included.
        features: The feature matrices behind the projections.
        projections: One for each of `features` in the same order, or none.
        galleries: Images, one gallery for each dataset.
        scheme: Label scheme that colours the projections, and that scores by label fraction and class are shown of;
            None: the default of each dataset, which is the first of its runs.
        head: Head that the backbones are compared with; None: that of the first probe.
        variant: Preprocessing variant that they are compared on, networks from scratch included; None: that of the
            first probe.

    Raises:
        ProbeError: There are runs, but none of that head and variant.
    """
    captioned_figures = [sample_figure(galleries)] if galleries else []
    if projections:
        captioned_figures.append(latent_figure(features, projections, scheme))
    if not runs:
        return captioned_figures
    first = _first_probe(runs)
    compared = select_runs(runs, head or first.head, variant or first.variant)
    schemes = {run.dataset: scheme or run.scheme for run in reversed(compared)}
    shown = [run for run in compared if run.scheme == schemes[run.dataset]]
    several = [run for run in compared if len({other.scheme for other in compared if other.dataset == run.dataset}) > 1]
    captioned_figures += [curve_figure(shown), class_figure(shown)]
    captioned_figures += [scheme_figure(several)] if several else []
    return [*captioned_figures, precision_recall_figure(shown)]


def select_runs(runs: Sequence[Run], head: str, variant: str) -> list[Run]:
    """Runs of one head and variant, and those of networks trained from scratch on that variant."""
    return [run for run in runs if run.variant == variant and (run.head == head or is_baseline(run.head))]


def sample_figure(galleries: Sequence[Gallery]) -> CaptionedFigure:
    """Figure 1: images and raw values."""
    lost = [f"{sample} ({reason})" for gallery in galleries for sample, reason in gallery.unreadable.items()]
    passed = f" Passed over, for they cannot be shown: {'; '.join(lost)}." if lost else ""
    ranges = "; ".join(f"{gallery.dataset}, {describe_range(gallery.histogram)}" for gallery in galleries)
    return CaptionedFigure(
        "figure-1-samples",
        sample_grid(galleries),
        f"Images drawn at random by class (seed {galleries[0].seed}) as a backbone sees them, the first of them "
        "without a stretch, and the raw pixel values of all that are shown. White: annotated objects. Negative values "
        "of a single band are drawn in orange. The noise is 1.4826 times the median absolute deviation or, where that "
        f"is zero, the smallest magnitude; the dynamic range is that of the largest value: {ranges}.{passed}",
        f"Images and histograms of {', '.join(_describe_gallery(gallery) for gallery in galleries)}.",
    )


def curve_figure(runs: Sequence[Run]) -> CaptionedFigure:
    """Figure 3: F1 against the share of labels."""
    return CaptionedFigure(
        "figure-3-f1",
        learning_curves(runs),
        f"Macro-F1 against the share of the training labels, {_comparison(runs)}.{_baselines(runs)}",
        f"Line charts of macro-F1. With the most labels: {_best(runs, 'f1')}.",
    )


def fitted_figures(curves: Sequence[LearningCurve]) -> list[CaptionedFigure]:
    """Fitted learning curves, a figure for each dataset and label scheme."""
    subjects: dict[tuple[str, str], list[LearningCurve]] = {}
    for curve in curves:
        first = curve.steps[0].first
        subjects.setdefault((first.dataset, first.scheme), []).append(curve)
    return [
        CaptionedFigure(
            escape(f"{dataset}-{scheme}-learning-curves"),
            fitted_curves(own),
            f"{METRICS[own[0].metric]} of {dataset} ({scheme}) against the number of training labels: marks are means "
            "over seeds, lines the power law a - b n^-c fitted to them, dashed where it is extrapolated, and bands its "
            f"{own[0].confidence:.0%} intervals by a bootstrap over seeds and over the "
            f"{len(own[0].steps[0].first.truth):,} test images.",
            f"Line charts of fitted learning curves of {dataset} ({scheme}). Their table gives the numbers.",
        )
        for (dataset, scheme), own in subjects.items()
    ]


def class_figure(runs: Sequence[Run]) -> CaptionedFigure:
    """Figure 4: F1 of each class."""
    largest = at_fraction(runs, None)
    return CaptionedFigure(
        "figure-4-classes",
        class_scores(largest),
        f"F1 of each class with {largest[0].fraction} % of the training labels, grouped by backbone, "
        f"{_comparison(largest)}. Beside a class is its number of test images.",
        f"Dot charts of the F1 of each class on {_subjects(largest)}.",
    )


def scheme_figure(runs: Sequence[Run]) -> CaptionedFigure:
    """Figure 5: F1 by label scheme, of datasets that were probed with several."""
    largest = at_fraction(runs, None)
    return CaptionedFigure(
        "figure-5-schemes",
        scheme_scores(largest),
        f"Macro-F1 with {largest[0].fraction} % of the training labels, by label scheme and grouped by backbone, "
        f"{_comparison(largest)}. Schemes differ in their number of classes, and so in what chance would score.",
        f"Dot charts of macro-F1 by label scheme: {_best(largest, 'f1')}.",
    )


def precision_recall_figure(runs: Sequence[Run]) -> CaptionedFigure:
    """Figures B.1 and B.2: precision and recall against the share of labels."""
    return CaptionedFigure(
        "figure-b-precision-recall",
        learning_curves(runs, ("precision", "recall")),
        f"Macro-precision (left) and macro-recall (right) against the share of the training labels, "
        f"{_comparison(runs)}.{_baselines(runs)}",
        f"Line charts. With the most labels, precision: {_best(runs, 'precision')}; recall: {_best(runs, 'recall')}.",
    )


def _first_probe(runs: Sequence[Run]) -> Run:
    return next((run for run in runs if not is_baseline(run.head)), runs[0])


def _comparison(runs: Sequence[Run]) -> str:
    """Head, variant, datasets, runs and interval of a comparison."""
    first = _first_probe(runs)
    seeds = len({run.seed for run in runs})
    return (
        f"of the head {first.head} ({first.protocol}) on {first.variant}: {_subjects(runs)}. "
        f"Marks are means, bars go from the minimum to the maximum over {seeds} run{'s' * (seeds > 1)}"
    )


def _baselines(runs: Sequence[Run]) -> str:
    return " Dotted: networks trained from scratch." if any(is_baseline(run.head) for run in runs) else ""


def _subjects(runs: Sequence[Run]) -> str:
    parts = by_subject(runs)
    return ", ".join(f"{one[0].dataset} ({one[0].scheme}; {count_images(one)} test images)" for one in parts)


def _best(runs: Sequence[Run], metric: Metric) -> str:
    """Backbone with the highest mean at the largest share of labels, for each dataset and label scheme."""
    found = []
    for part in by_subject(at_fraction(runs, None)):
        best = max(macro_series(part, metric), key=lambda one: one.scores["mean"].iloc[0])
        name = best.label(heads=False)
        found.append(f"{part[0].dataset} ({part[0].scheme}), {name}, {best.scores['mean'].iloc[0]:.3f}")
    return "; ".join(found)


def _describe_gallery(gallery: Gallery) -> str:
    classes = f", classes {', '.join(gallery.classes)}" if gallery.classes else ""
    return f"{gallery.dataset} ({len(gallery.labels)} images{classes})"
