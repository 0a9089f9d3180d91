"""What detectors gain over the same network trained from scratch, by IoU threshold (Figure C.1 of the study)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from featurestore.errors import FinetuneError
from finetune.detection.evaluation import SWEEP, bootstrap_map50, match_detections
from finetune.detection.results import DetectionRun, by_detector, check_comparable
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
    for title, group in _by_test(runs).items():
        detectors = dict(by_detector(group, fractions=False))
        baselines = _find_baselines(detectors.values())
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


def _find_baselines(detectors: Iterable[Sequence[DetectionRun]]) -> dict[str, Sequence[DetectionRun]]:
    """Backbone -> runs from scratch."""
    found: dict[str, Sequence[DetectionRun]] = {}
    for own in detectors:
        first = own[0]
        if first.mode != SCRATCH:
            continue
        if first.backbone in found:
            raise FinetuneError(
                "several detectors from scratch have this backbone, with other settings",
                where=f"{first.dataset}: {first.backbone}",
                hint="Use a store of its own for each setting, so that it is clear which one is the baseline.",
            )
        found[first.backbone] = own
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


def _by_test(runs: Sequence[DetectionRun]) -> dict[str, list[DetectionRun]]:
    """Runs by what they were tested on, in their order."""
    tests: dict[str, list[DetectionRun]] = {}
    for run in runs:
        tests.setdefault(_describe_test(run), []).append(run)
    return tests
