"""What detectors gain over the same network trained from scratch, by IoU threshold (Figure C.1 of the study)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from featurestore.errors import FinetuneError
from finetune.detection.evaluation import SWEEP, bootstrap_map50, match_detections
from finetune.detection.figures import iou_differences
from finetune.detection.results import DetectionRun, check_comparable
from probes.plotting import CaptionedFigure
from probes.statistics.bootstrap import Difference

SCRATCH = "scratch"
"""Mode of a detector whose backbone was not pretrained."""

N_RESAMPLES = 500
"""Resamples for each of the nine thresholds: their intervals are drawn, not tabulated."""

Sweep = Mapping[float, Difference]
"""IoU threshold -> difference in mAP."""


def differences_from_scratch(runs: Sequence[DetectionRun], **options: Any) -> dict[str, dict[str, Sweep]]:
    """Every detector minus the one that was trained from scratch on the same images.

    The baseline is the detector from scratch with the same backbone; where there is none, the only one from scratch.

    Args:
        runs: Runs (seeds) of detectors on any datasets.
        **options: See `sweep_differences`.

    Returns:
        What was tested, in two lines -> name of the detector and its number of runs -> differences.

    Raises:
        FinetuneError: A detector has no baseline, or several; or it was tested on other images.
    """
    found: dict[str, dict[str, Sweep]] = {}
    for title, group in _group(runs, _describe_test):
        detectors = dict(_group(group, _describe))
        baselines = {own[0].backbone: own for own in detectors.values() if own[0].mode == SCRATCH}
        rows = {
            f"{name} ({len(own)} run{'s' * (len(own) > 1)})": sweep_differences(
                _baseline(own[0], baselines), own, **options
            )
            for name, own in detectors.items()
            if own[0].mode != SCRATCH
        }
        if rows:
            found[title] = rows
    return found


def difference_figure(runs: Sequence[DetectionRun], **options: Any) -> CaptionedFigure:
    """The differences as a figure with its caption; arguments and errors as in `differences_from_scratch`."""
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


def sweep_differences(
    first: Sequence[DetectionRun], second: Sequence[DetectionRun], n_resamples: int = N_RESAMPLES, **options: Any
) -> Sweep:
    """Paired bootstrap of the difference in mAP at each IoU threshold, second minus first.

    Args:
        first: Runs (seeds) of one detector.
        second: Runs of the other.
        n_resamples: Resamples of the test images.
        **options: See `finetune.detection.evaluation.bootstrap_map50`.

    Raises:
        FinetuneError: No runs, or runs that were tested on different images or classes.
    """
    check_comparable(first, second)
    found = {}
    for iou in SWEEP:
        before, after = ([match_detections(run.images, run.detections, iou) for run in own] for own in (first, second))
        difference = bootstrap_map50(before, after, len(first[0].images), n_resamples=n_resamples, **options)
        found[iou] = replace(difference, metric=f"map_iou{iou:.1f}")
    return found


def _baseline(run: DetectionRun, baselines: Mapping[str, Sequence[DetectionRun]]) -> Sequence[DetectionRun]:
    """Runs from scratch that a detector is compared with."""
    if run.backbone in baselines:
        return baselines[run.backbone]
    if len(baselines) != 1:
        raise FinetuneError(
            f"{len(baselines)} detectors from scratch, and none of them with this backbone",
            where=f"{run.dataset}: {run.backbone}",
            hint="Train one with --mode scratch, on the same share of the images.",
        )
    return next(iter(baselines.values()))


def _describe_test(run: DetectionRun) -> str:
    trained = f"{run.variant}, {run.fraction} % of the training images"
    return f"{run.dataset} ({run.view}), {len(run.images):,} test images\n{trained}"


def _describe(run: DetectionRun) -> str:
    return f"{run.backbone}, {run.mode}"


def _group(
    runs: Sequence[DetectionRun], name: Callable[[DetectionRun], str]
) -> Iterator[tuple[str, list[DetectionRun]]]:
    """Runs by a name, in the order of the runs."""
    for wanted in dict.fromkeys(map(name, runs)):
        yield wanted, [run for run in runs if name(run) == wanted]
