from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision

from featurestore.errors import FinetuneError
from finetune.detection.evaluation import (
    COCO_THRESHOLDS,
    SWEEP,
    THRESHOLDS,
    bin_shares,
    bootstrap_map50,
    detection_limit,
    match_detections,
    score_detections,
    weighted_map,
)
from finetune.detection.export import coco_results
from finetune.detection.targets import AnnotatedImage, Detections

CLASSES = ("a", "b", "c")


def random_boxes(rng, count):
    corner = rng.uniform(0, 70, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(3, 30, (count, 2))], axis=1).astype(np.float32)


def random_case(seed, n_images=12, n_classes=3):
    """Scenes with crowds and empty images; detections near the truth, elsewhere, several of one object, and none."""
    rng = np.random.default_rng(seed)
    annotated, found = [], []
    for image in range(n_images):
        boxes = random_boxes(rng, rng.integers(0, 6))
        labels = rng.integers(0, n_classes, len(boxes))
        crowd = rng.random(len(boxes)) < 0.3
        annotated.append(
            AnnotatedImage(image, f"{image}", (100, 100), boxes, labels, crowd, np.full(len(boxes), np.nan))
        )
        copies = int(rng.integers(0, 4))
        near = np.repeat(boxes, copies, axis=0) + rng.normal(0, 2, (copies * len(boxes), 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        every = np.concatenate([near, random_boxes(rng, rng.integers(0, 4))]).astype(np.float32)
        classes = rng.integers(0, n_classes, len(every))
        right = rng.random(len(near)) < 0.7
        classes[: len(near)] = np.where(right, np.repeat(labels, copies), classes[: len(near)])
        found.append(Detections(every, classes, rng.random(len(every), dtype=np.float32)))
    return annotated, found


def annotate(annotated, classes):
    """The truth in COCO's form, as a user would have it: every box of its own category, crowds as well."""
    boxes = [
        (image, *one)
        for image, truth in enumerate(annotated, 1)
        for one in zip(truth.boxes.tolist(), truth.labels.tolist(), truth.crowd.tolist(), strict=True)
    ]
    return {
        "images": [{"id": image, "height": 100, "width": 100} for image in range(1, len(annotated) + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": label + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": int(crowd),
            }
            for number, (image, (x0, y0, x1, y1), label, crowd) in enumerate(boxes, 1)
        ],
    }


def pycoco(annotated, found, classes=CLASSES):
    """Average precision (threshold, recall, class) by pycocotools; -1 for classes without objects."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = annotate(annotated, classes)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(coco_results(annotated, found)), "bbox")
        evaluation.params.iouThrs = np.array(THRESHOLDS)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_that_of_pycocotools(seed):
    annotated, found = random_case(seed)
    precision = pycoco(annotated, found).eval["precision"][:, :, :, 0, -1]
    expected = np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1))
    scores = score_detections(annotated, found, CLASSES)
    np.testing.assert_allclose(scores.precision, expected, atol=1e-12)
    assert 0.05 < scores.map50 < 0.95
    assert scores.map == pytest.approx(np.nanmean(expected[[THRESHOLDS.index(value) for value in COCO_THRESHOLDS]]))
    assert scores.sweep == {value: pytest.approx(np.nanmean(expected[THRESHOLDS.index(value)])) for value in SWEEP}


@pytest.mark.parametrize("n_classes", [1, 3])
def test_average_precision_is_that_of_torchmetrics(n_classes):
    annotated, found = random_case(3, n_classes=n_classes)
    # its own recall thresholds are rounded to 32 bits, which moves some precisions
    metric = MeanAveragePrecision(backend="faster_coco_eval", rec_thresholds=np.linspace(0, 1, 101).tolist())
    as_tensors = [
        {"boxes": torch.tensor(one.boxes), "labels": torch.tensor(one.labels), "scores": torch.tensor(one.scores)}
        for one in found
    ]
    truth = [
        {"boxes": torch.tensor(one.boxes), "labels": torch.tensor(one.labels), "iscrowd": torch.tensor(one.crowd).int()}
        for one in annotated
    ]
    expected = metric(as_tensors, truth)
    scores = score_detections(annotated, found, CLASSES[:n_classes])
    assert scores.map50 == pytest.approx(float(expected["map_50"]))
    assert scores.map == pytest.approx(float(expected["map"]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("iou", [0.3, 0.5])
def test_matches_are_those_of_pycocotools(seed, iou):
    annotated, found = random_case(seed)
    matches = match_detections(annotated, found, iou)
    evaluation, place = pycoco(annotated, found), THRESHOLDS.index(iou)
    parts = [one for one in evaluation.evalImgs if one is not None and one["aRng"] == evaluation.params.areaRng[0]]
    for one in parts:
        mine = (matches.image == one["image_id"] - 1) & (matches.label == one["category_id"] - 1)
        ignored = one["dtIgnore"][place].astype(bool)
        np.testing.assert_allclose(matches.score[mine], one["dtScores"])
        np.testing.assert_array_equal(matches.ignored[mine], ignored)
        np.testing.assert_array_equal(matches.hit[mine], (one["dtMatches"][place] > 0) & ~ignored)
    assert matches.ignored.any() and matches.hit.any()


def test_a_crowd_region_is_one_of_its_class():
    box, elsewhere = [10.0, 10, 20, 20], [60.0, 60, 90, 90]
    truth = AnnotatedImage(
        0,
        "0",
        (100, 100),
        np.float32([elsewhere, [0, 0, 40, 40]]),
        np.array([1, 0]),
        np.array([False, True]),
        np.zeros(2),
    )
    found = [Detections(np.float32([box, box]), np.array([0, 1]), np.float32([0.9, 0.8]))]
    assert match_detections([truth], found).ignored.tolist() == [True, False]


def crowded(n_objects, n_found):
    """One image with so many objects of a class, and the first of them found exactly."""
    corner = np.stack(np.divmod(np.arange(n_objects), 40), axis=1) * 20
    boxes = np.concatenate([corner, corner + 10], axis=1).astype(np.float32)
    none = np.zeros(n_objects, np.int64)
    truth = AnnotatedImage(0, "0", (2000, 2000), boxes, none, none.astype(bool), none.astype(float))
    scores = np.linspace(1, 0.5, n_found, dtype=np.float32)
    return [truth], [Detections(boxes[:n_found], none[:n_found], scores)]


@pytest.mark.parametrize("n_objects", [3, 100, 150, 400])
def test_all_objects_of_a_crowded_field_can_be_found(n_objects):
    annotated, found = crowded(n_objects, n_objects)
    scores = score_detections(annotated, found, ("source",))
    assert scores.map50 == scores.map == 1.0
    assert scores.limit == detection_limit(annotated) == max(100, n_objects)
    matches = match_detections(annotated, found)
    assert matches.completeness(0.0) == 1.0
    assert weighted_map(matches, np.ones((1, 1), np.int64)) == [1.0]
    assert match_detections(annotated, found, limit=2).hit.sum() == 2


def test_crowds_do_not_raise_the_limit():
    (truth,), _ = crowded(150, 150)
    assert detection_limit([replace(truth, crowd=np.arange(150) >= 120)]) == 120
    assert detection_limit([]) == 100


@pytest.mark.parametrize("seed", range(4))
def test_weighted_map_is_that_of_repeated_images(seed):
    """A resample scored by weights, and scored by the library with its images really repeated."""
    annotated, found = random_case(seed)
    counts = np.random.default_rng(seed).multinomial(len(annotated), np.full(len(annotated), 1 / len(annotated)))
    repeated = np.repeat(np.arange(len(annotated)), counts)
    expected = score_detections([annotated[i] for i in repeated], [found[i] for i in repeated], CLASSES)
    weighted = weighted_map(match_detections(annotated, found), np.stack([np.ones_like(counts), counts]))
    assert weighted[0] == pytest.approx(score_detections(annotated, found, CLASSES).map50)
    assert weighted[1] == pytest.approx(expected.map50)


def test_bootstrap_of_equal_detectors_is_zero():
    annotated, found = random_case(0)
    matches = match_detections(annotated, found)
    difference = bootstrap_map50([matches], [matches, matches], len(annotated), n_resamples=50)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_bootstrap_sees_the_better_detector():
    """Two runs each; the perfect detector is compared with one that misses every second object."""
    annotated, _ = random_case(1, n_images=30)
    perfect = [Detections(one.boxes, one.labels, np.ones(len(one.boxes), np.float32)) for one in annotated]
    half = [Detections(one.boxes[::2], one.labels[::2], one.scores[::2]) for one in perfect]
    good, bad = match_detections(annotated, perfect), match_detections(annotated, half)
    difference = bootstrap_map50([bad, bad], [good, good], len(annotated), n_resamples=200)
    assert difference.value == pytest.approx(1 - score_detections(annotated, half, CLASSES).map50)
    assert 0.1 < difference.low < difference.value < difference.high < 0.9
    assert difference == bootstrap_map50([bad, bad], [good, good], len(annotated), n_resamples=200)


def spoil(annotated, share, seed):
    """Matches of a detector that finds that share of the objects."""
    rng = np.random.default_rng(seed)
    found = []
    for one in annotated:
        kept = rng.random(len(one.boxes)) < share
        found.append(Detections(one.boxes[kept], one.labels[kept], np.ones(int(kept.sum()), np.float32)))
    return match_detections(annotated, found)


def test_runs_that_differ_widen_the_interval_beyond_that_of_the_images():
    annotated, _ = random_case(1, n_images=30)
    base, runs = [spoil(annotated, 0.9, 0)], [spoil(annotated, share, 1) for share in (0.3, 0.6, 0.9)]
    together = bootstrap_map50(base, runs, len(annotated), n_resamples=500)
    alone = [bootstrap_map50(base, [run], len(annotated), n_resamples=500) for run in runs]
    assert together.value == pytest.approx(np.mean([one.value for one in alone]))
    assert together.high - together.low > 1.5 * max(one.high - one.low for one in alone)
    equal = bootstrap_map50(base, runs[:1] * 3, len(annotated), n_resamples=500)
    assert (equal.low, equal.high) == pytest.approx((alone[0].low, alone[0].high))


def test_resamples_without_an_object_are_no_draws():
    annotated, _ = random_case(1, n_images=30)
    full = next(one for one in annotated if (~one.crowd).any())
    bare = replace(full, boxes=full.boxes[:0], labels=full.labels[:0], crowd=full.crowd[:0], flux=full.flux[:0])
    images = [full, bare, bare]
    first, second = [spoil(images, 1, 0)], [spoil(images, 1, 0), spoil(images, 0, 0)]
    difference = bootstrap_map50(first, second, len(images), n_resamples=400)
    assert difference.value == pytest.approx(-0.5)
    assert np.isfinite([difference.low, difference.high, difference.p_value]).all()


def test_completeness_and_reliability_by_hand():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 90, 90]], np.float32)
    truth = AnnotatedImage(
        0, "a", (100, 100), boxes, np.zeros(3, np.int64), np.array([False, False, True]), np.full(3, np.nan)
    )
    found = Detections(
        np.array([[0, 0, 10, 9], [0, 0, 9, 10], [60, 60, 70, 70], [21, 21, 30, 30]], np.float32),
        np.zeros(4, np.int64),
        np.array([0.9, 0.8, 0.7, 0.3], np.float32),
    )
    matches = match_detections([truth], [found])
    assert matches.hit.tolist() == [True, False, False, True]
    assert matches.ignored.tolist() == [False, False, True, False]
    assert [matches.completeness(threshold) for threshold in (0.95, 0.5, 0.2)] == [0, 0.5, 1]
    assert [matches.reliability(threshold) for threshold in (0.5, 0.2)] == [0.5, pytest.approx(2 / 3)]
    assert np.isnan(matches.reliability(0.95))


def test_nothing_found_scores_zero():
    annotated, _ = random_case(0)
    nothing = [Detections(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))] * len(
        annotated
    )
    assert score_detections(annotated, nothing, CLASSES).map50 == 0
    assert weighted_map(match_detections(annotated, nothing), np.ones((1, len(annotated)), np.int64)).tolist() == [0]


def test_nothing_to_be_found():
    empty = AnnotatedImage(
        0, "a", (9, 9), np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, bool), np.empty(0)
    )
    with pytest.raises(FinetuneError, match=r"there is no object to be found \[1 images\]. Test on images that hold"):
        score_detections([empty], [Detections(empty.boxes, empty.labels, np.empty(0, np.float32))], CLASSES)


def test_shares_by_bins():
    values, flags = np.array([0.5, 1.5, 1.6, np.nan, 2.0, 9.0]), np.array([True, True, False, True, True, True])
    shares, counts = bin_shares(values, flags, np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    assert counts.tolist() == [1, 2, 1, 0]
    np.testing.assert_array_equal(shares, [1, 0.5, 1, np.nan])
