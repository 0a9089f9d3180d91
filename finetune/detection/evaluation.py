"""Scores of detections: COCO's average precision, completeness and reliability, and the interval of a difference.

Average precision is computed by faster_coco_eval. What needs to know which detection found which object (completeness,
reliability, the bootstrap, drawn boxes) comes from `match_detections`, which follows the same rule at one IoU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import FinetuneError, MissingDependencyError
from finetune.detection.export import coco_dataset, coco_results
from finetune.detection.targets import AnnotatedImage, Detections
from probes.statistics.bootstrap import CONFIDENCE, Difference, average_seeds, describe_difference

try:
    from faster_coco_eval import COCO, COCOeval_faster
    from faster_coco_eval.core import mask
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        "scores of detections need faster-coco-eval",
        where="detect",
        hint="Install it: pip install 'skyprobe[finetune]'.",
    ) from error

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

SWEEP = tuple(round(0.1 * step, 2) for step in range(1, 10))
"""IoU thresholds of the sweep, 0.1 ... 0.9."""

COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds that the COCO score averages over, 0.5 ... 0.95."""

THRESHOLDS = tuple(sorted({*SWEEP, *COCO_THRESHOLDS}))

LEAST_LIMIT = 100
"""Detections that count in an image and class, the best first; COCO's own number, for images with fewer objects."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which COCO reads off the precision."""


@dataclass(frozen=True)
class DetectionScores:
    """Average precision by IoU threshold and class.

    Attributes:
        classes: Names of the classes.
        precision: float64 (len(THRESHOLDS), n_classes); NaN for a class without an object.
        n_objects: int64 (n_classes,), objects of each class that were there to be found.
        limit: Detections that counted in an image and class, see `detection_limit`.
    """

    classes: tuple[str, ...]
    precision: Floats
    n_objects: Indices
    limit: int = LEAST_LIMIT

    def mean_at(self, *thresholds: float) -> float:
        """Mean average precision over classes with objects and over IoU thresholds out of `THRESHOLDS`."""
        return float(np.nanmean(self.precision[[THRESHOLDS.index(value) for value in thresholds]]))

    @property
    def map50(self) -> float:
        """The mAP at IoU 0.5."""
        return self.mean_at(0.5)

    @property
    def map(self) -> float:
        """The mAP averaged over IoU 0.5 ... 0.95, the COCO score."""
        return self.mean_at(*COCO_THRESHOLDS)

    @property
    def sweep(self) -> dict[float, float]:
        """IoU threshold -> mAP, for those of `SWEEP`."""
        return {value: self.mean_at(value) for value in SWEEP}

    def of_class(self, label: int) -> tuple[float, float]:
        """Average precision of one class at IoU 0.5, and its mean over IoU 0.5 ... 0.95."""
        column = self.precision[:, label]
        places = [THRESHOLDS.index(value) for value in COCO_THRESHOLDS]
        return float(column[THRESHOLDS.index(0.5)]), float(column[places].mean())


@dataclass(frozen=True)
class Matches:
    """Which detection found which object, at one IoU threshold, over all images.

    Detections stand image by image, best first; objects (crowd regions left out) image by image as annotated.

    Attributes:
        image: int64 (m,), image of each detection.
        label: int64 (m,), its class.
        score: float64 (m,).
        box: int64 (m,), its index among the detections of its image.
        hit: bool (m,), whether it found an object.
        ignored: bool (m,), whether it lies in a crowd region: neither hit nor false.
        object_image: int64 (k,), image of each object.
        object_label: int64 (k,), its class.
        object_box: int64 (k,), its index among the boxes of its image.
        object_score: float64 (k,), score of the detection that found it; -inf if none did.
    """

    image: Indices
    label: Indices
    score: Floats
    box: Indices
    hit: Flags
    ignored: Flags
    object_image: Indices
    object_label: Indices
    object_box: Indices
    object_score: Floats

    def completeness(self, threshold: float) -> float:
        """Share of the objects that are found by detections of at least that score (recall); NaN without objects."""
        return _mean(self.object_score >= threshold)

    def reliability(self, threshold: float) -> float:
        """Share of hits among the detections of at least that score (precision); NaN without such detections."""
        return _mean(self.hit[(self.score >= threshold) & ~self.ignored])


def detection_limit(annotated: Iterable[AnnotatedImage]) -> int:
    """Detections that count in an image and class: as many as the fullest image has objects, and no less than COCO's.

    With 100 of them, as usual, no detector could find the rest of a crowded field.
    """
    return max([LEAST_LIMIT, *(int(np.count_nonzero(~truth.crowd)) for truth in annotated)])


def score_detections(
    annotated: Sequence[AnnotatedImage], detections: Sequence[Detections], classes: tuple[str, ...]
) -> DetectionScores:
    """COCO's average precision at all `THRESHOLDS`.

    Args:
        annotated: The truth. Detections in crowd regions of their class are not false.
        detections: What was found, for each image.
        classes: Names of the classes.

    Raises:
        FinetuneError: No image holds an object.
    """
    labels = np.concatenate([truth.labels[~truth.crowd] for truth in annotated] or [np.empty(0, dtype=np.int64)])
    if not len(labels):
        raise FinetuneError(
            "there is no object to be found", where=f"{len(annotated)} images", hint="Test on images that hold objects."
        )
    coco = COCO(coco_dataset(annotated, classes))
    evaluation = COCOeval_faster(coco, coco.loadRes(coco_results(annotated, detections)), "bbox")
    evaluation.params.iouThrs = np.array(THRESHOLDS)
    evaluation.params.maxDets = [limit := detection_limit(annotated)]
    evaluation.evaluate()
    evaluation.accumulate()
    # by threshold, recall and class; -1 where there is no object
    by_recall = evaluation.eval["precision"][:, :, :, 0, 0].astype(np.float64)
    precision = np.where(by_recall[:, 0] < 0, np.nan, by_recall.mean(axis=1))
    return DetectionScores(classes, precision, np.bincount(labels, minlength=len(classes)), limit)


def match_detections(
    annotated: Sequence[AnnotatedImage], detections: Sequence[Detections], iou: float = 0.5, limit: int | None = None
) -> Matches:
    """Match by COCO's rule: in order of score, each detection takes the free object of its class with the largest IoU.

    A detection that finds no object, but whose own area lies in a crowd region of its class by a share of `iou`, is
    ignored.

    Args:
        annotated: The truth.
        detections: What was found, for each image.
        iou: Smallest IoU of a match.
        limit: Detections that count in an image and class; None: `detection_limit` of these images.
    """
    limit = detection_limit(annotated) if limit is None else limit
    parts = [_match(index, *pair, iou, limit) for index, pair in enumerate(zip(annotated, detections, strict=True))]
    return Matches(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def bootstrap_map50(
    first: Sequence[Matches],
    second: Sequence[Matches],
    n_images: int,
    *,
    confidence: float = CONFIDENCE,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Paired bootstrap over images: percentile interval of mAP@50(second) - mAP@50(first), each a mean over its runs.

    All runs are read off the same resample of the images. The variance of the runs of a detector is added, see
    `probes.statistics.bootstrap.average_seeds`, that of both as if their runs were independent; one run, or equal ones,
    say nothing of training, and the interval tells of the images alone. A class that a resample misses is in no mean.

    Args:
        first: Runs (seeds) of the first detector, matched at IoU 0.5.
        second: Runs of the second, on the same images.
        n_images: Number of images.
        confidence: Level of the interval.
        n_resamples: Number of resamples.
        seed: Seed of the resamples, and of the draws of the runs.
    """
    draws = np.random.default_rng(seed).multinomial(n_images, np.full(n_images, 1 / n_images), size=n_resamples)
    weights = np.concatenate([np.ones((1, n_images), dtype=np.int64), draws])
    scores = [np.stack([weighted_map(run, weights) for run in runs], axis=1) for runs in (first, second)]
    held = np.isfinite(np.hstack(scores)).all(axis=1)  # a resample without any object is no draw
    before, after = (average_seeds(own[held], 2 * seed + number) for number, own in enumerate(scores))
    difference = np.full(len(weights), np.nan)
    difference[held] = after - before
    return describe_difference("map50", difference, confidence)


def weighted_map(matches: Matches, weights: Indices) -> Floats:
    """Mean average precision of resamples of the images, float64 (r,); NaN where a resample holds no object.

    Args:
        matches: Of one run.
        weights: int64 (r, n_images), how often each image is in each resample.
    """
    classes = np.unique(matches.object_label)
    if not len(classes):
        return np.full(len(weights), np.nan)
    by_class = np.stack([_weighted_precision(matches, weights, label) for label in classes])
    tested = ~np.isnan(by_class)
    total = np.where(tested, by_class, 0).sum(axis=0)
    mean: Floats = np.divide(total, tested.sum(axis=0), out=np.full(len(weights), np.nan), where=tested.any(axis=0))
    return mean


def bin_shares(values: Floats, flags: Flags, edges: Floats) -> tuple[Floats, Indices]:
    """Share of true flags by bins of a quantity, such as completeness by flux.

    Args:
        values: float64 (n,); NaN is in no bin.
        flags: bool (n,).
        edges: float64 (b + 1,), ascending; the last bin includes its upper edge.

    Returns:
        Shares float64 (b,), NaN for empty bins, and counts int64 (b,).
    """
    known = ~np.isnan(values)
    counts, _ = np.histogram(values[known], edges)
    true, _ = np.histogram(values[known & flags], edges)
    return np.divide(true, counts, out=np.full(len(counts), np.nan), where=counts > 0), counts.astype(np.int64)


def _match(
    index: int, truth: AnnotatedImage, found: Detections, iou: float, limit: int
) -> tuple[NDArray[np.generic], ...]:
    """The columns of `Matches` for one image."""
    chosen = _best(found, limit)
    hit, ignored = np.zeros(len(chosen), dtype=bool), np.zeros(len(chosen), dtype=bool)
    found_with = np.full(len(truth.boxes), -np.inf)
    overlap = _overlaps(found.boxes[chosen], truth)
    for rank, detection in enumerate(chosen):
        same = truth.labels == found.labels[detection]
        free = same & ~truth.crowd & np.isneginf(found_with)
        candidates = np.flatnonzero(free & (overlap[rank] >= iou))
        if len(candidates):
            best = max(candidates, key=lambda box: (overlap[rank, box], box))  # of equals the last, as COCO has it
            hit[rank], found_with[best] = True, found.scores[detection]
        else:
            ignored[rank] = bool((overlap[rank, same & truth.crowd] >= iou).any())
    objects = np.flatnonzero(~truth.crowd)
    scores = found.scores[chosen].astype(np.float64)
    return (
        np.full(len(chosen), index), found.labels[chosen], scores, chosen, hit, ignored,
        np.full(len(objects), index), truth.labels[objects], objects, found_with[objects],
    )  # fmt: skip


def _best(found: Detections, limit: int) -> Indices:
    """Detections of one image in descending order of score, the first `limit` of each class."""
    order = np.argsort(-found.scores, kind="stable")
    counted = np.zeros(len(order), dtype=bool)
    for label in np.unique(found.labels):
        counted[np.flatnonzero(found.labels[order] == label)[:limit]] = True
    return order[counted].astype(np.int64)


def _overlaps(boxes: NDArray[np.float32], truth: AnnotatedImage) -> Floats:
    """IoU (m, k) of detections and annotated boxes; with a crowd region, the intersection over the detection."""
    if not len(boxes) or not len(truth.boxes):
        return np.zeros((len(boxes), len(truth.boxes)))
    corners = [np.concatenate([part[:, :2], part[:, 2:] - part[:, :2]], axis=1) for part in (boxes, truth.boxes)]
    return np.asarray(mask.iou(*(part.astype(np.float64) for part in corners), truth.crowd.astype(np.uint8)))


def _weighted_precision(matches: Matches, weights: Indices, label: int) -> Floats:
    """COCO's 101-point average precision of one class in each resample, float64 (r,)."""
    n_objects = weights[:, matches.object_image[matches.object_label == label]].sum(axis=1)
    chosen = np.flatnonzero((matches.label == label) & ~matches.ignored)
    chosen = chosen[np.argsort(-matches.score[chosen], kind="stable")]
    weight, hit = weights[:, matches.image[chosen]], matches.hit[chosen]
    hits, total = np.cumsum(weight * hit, axis=1), np.cumsum(weight, axis=1)
    precision = np.divide(hits, total, out=np.zeros(hits.shape), where=total > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.array([_read_off(*row) for row in zip(hits, envelope, n_objects, strict=True)])


def _read_off(hits: Indices, envelope: Floats, n_objects: int) -> float:
    """Mean over `RECALLS` of the best precision at that recall or more; NaN without objects."""
    if not n_objects:
        return np.nan
    places = np.searchsorted(hits / n_objects, RECALLS, side="left")
    return float(np.append(envelope, 0.0)[places].mean())


def _mean(flags: Flags) -> float:
    return float(flags.mean()) if len(flags) else np.nan
