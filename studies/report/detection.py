"""What a report shows of detectors: a table and a figure for each test, and what they gain over one from scratch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from featurestore.errors import FinetuneError
from featurestore.store.layout.names import escape
from finetune.detection.differences import SCRATCH, differences_from_scratch
from finetune.detection.figures import iou_differences, iou_sweep
from finetune.detection.results import DetectionRun, by_detector, show, summarise
from probes.plotting import CaptionedFigure
from probes.results.tables import Table


def detection_tables(runs: Sequence[DetectionRun]) -> list[Table]:
    """The summary of each dataset."""
    names = dict.fromkeys(run.dataset for run in runs)
    return [show(summarise([run for run in runs if run.dataset == name])) for name in names]


def detection_figures(runs: Sequence[DetectionRun], notice: Callable[[str], None]) -> list[CaptionedFigure]:
    """MAP by IoU threshold, and the differences from networks trained from scratch, where there are any.

    Args:
        runs: Runs of any datasets, views and variants.
        notice: Told why there are no differences, where detectors lack a baseline.
    """
    tests = dict.fromkeys((run.dataset, run.view, run.variant, len(run.images)) for run in runs)
    captioned_figures = []
    for dataset, view, variant, n_test in tests:
        own = [run for run in runs if (run.dataset, run.view, run.variant) == (dataset, view, variant)]
        scores = {name: [run.scores for run in part] for name, part in by_detector(own)}
        title = f"{dataset} ({view}), {variant}: {n_test} test images"
        captioned_figures.append(
            CaptionedFigure(
                escape(f"{dataset}-{view}-{variant}-iou"),
                iou_sweep(scores, title),
                f"mAP against the IoU threshold. {title}. Bars go from the minimum to the maximum over runs.",
                f"Line chart of the mAP against the IoU threshold for {', '.join(scores)}.",
            )
        )
    if {SCRATCH} < {run.mode for run in runs}:
        try:
            captioned_figures.append(difference_figure(runs))
        except FinetuneError as error:
            notice(f"No differences from networks trained from scratch are drawn: {error}")
    return captioned_figures


def difference_figure(runs: Sequence[DetectionRun], **options: Any) -> CaptionedFigure:
    """The differences as a figure with its caption; see `finetune.detection.differences.differences_from_scratch`."""
    differences = differences_from_scratch(runs, **options)
    figure = iou_differences(differences)
    one = next(iter(next(iter(next(iter(differences.values())).values())).values()))
    tests = "; ".join(title.replace("\n", ", ") for title in differences)
    baselines = dict.fromkeys(f"{run.backbone} on {run.dataset}" for run in runs if run.mode == SCRATCH)
    return CaptionedFigure(
        "figure-c-map-difference",
        figure,
        f"Difference in mAP from the network trained from scratch ({', '.join(baselines)}) against the IoU threshold: "
        f"{tests}. Marks are differences of means over runs, whose number stands behind the name; bars are "
        f"{one.confidence:.0%} intervals of a paired bootstrap over the test images ({one.n_resamples:,} resamples), "
        "and over runs where a detector has several that differ: else the variance of training is not in them.",
        f"Line charts of the difference in mAP against the IoU threshold for {tests}.",
    )
