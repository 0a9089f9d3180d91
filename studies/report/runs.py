"""What a report shows of runs: the best result as a sentence, the table, and figures of scores and confusion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from featurestore.store.layout.names import escape
from probes.plotting import CaptionedFigure
from probes.results.run import COMPARED, Run, describe, summarise, wide_table
from probes.results.tables import Table
from studies.figures.scores import confusion, confusion_counts, f1_by_fraction, per_class_f1
from studies.figures.series import by_subject, subject_of


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
