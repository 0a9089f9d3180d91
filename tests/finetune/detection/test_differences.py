"""Differences from the network trained from scratch, against COCO's own average precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featurestore.errors import FinetuneError
from finetune.detection.differences import difference_plate, differences_from_scratch, sweep_differences
from finetune.detection.results import DetectionRun
from finetune.detection.scoring import SWEEP
from finetune.detection.targets import Detections, Scene


def make(jitter, backbone="vit", mode="frozen", seed=0, **changes):
    """A detector whose boxes miss by so many pixels."""
    truth, rng = np.random.default_rng(1), np.random.default_rng(int(10 * jitter) + seed)
    corners = truth.uniform(0, 60, (12, 3, 2))
    boxes = np.concatenate([corners, corners + truth.uniform(10, 40, (12, 3, 2))], axis=2).astype(np.float32)
    labels = np.array([0, 1, 1])
    scenes = tuple(
        Scene(row, f"{row}.png", (100, 100), one, labels, np.zeros(3, bool), np.ones(3))
        for row, one in enumerate(boxes)
    )
    moved = boxes + np.tile(rng.normal(0, jitter, (12, 3, 2)), 2).astype(np.float32)
    found = tuple(Detections(one, labels, rng.uniform(0.1, 1, 3).astype(np.float32)) for one in moved)
    run = DetectionRun("radio", "resize=64", backbone, mode, "all", 100, seed, 7, ("a", "b"), scenes, found)
    return replace(run, **changes)


def test_differences_are_those_of_coco_at_every_threshold():
    first, second = [make(4, mode="scratch"), make(5, mode="scratch", seed=1)], [make(1)]
    sweep = sweep_differences(first, second, n_resamples=20)
    for iou in SWEEP:
        expected = second[0].scores.sweep[iou] - np.mean([run.scores.sweep[iou] for run in first])
        assert sweep[iou].value == pytest.approx(expected)
        assert sweep[iou].metric == f"map_iou{iou}"
        assert sweep[iou].low <= sweep[iou].high
    assert sweep[0.7].low > 0


def test_equal_detectors_do_not_differ():
    for one in sweep_differences([make(3)], [make(3)], n_resamples=20).values():
        assert (one.low, one.value, one.high) == (0, 0, 0)


def test_each_detector_is_compared_with_its_own_network():
    runs = [make(1), make(1, seed=1), make(3, "resnet", "tuned"), make(4, mode="scratch"), make(5, "resnet", "scratch")]
    (found,) = differences_from_scratch(runs, n_resamples=20).values()
    assert list(found) == ["vit, frozen (2 runs)", "resnet, tuned (1 run)"]
    for name, own, baseline in [
        ("vit, frozen (2 runs)", runs[:2], runs[3]),
        ("resnet, tuned (1 run)", [runs[2]], runs[4]),
    ]:
        expected = np.mean([run.scores.map50 for run in own]) - baseline.scores.map50
        assert found[name][0.5].value == pytest.approx(expected)


def test_one_network_from_scratch_serves_all():
    runs = [make(1), make(2, "resnet"), make(4, "vit-random", "scratch")]
    (found,) = differences_from_scratch(runs, n_resamples=20).values()
    assert list(found) == ["vit, frozen (1 run)", "resnet, frozen (1 run)"]


@pytest.mark.parametrize(
    "others", [[], [make(4, "a", "scratch"), make(4, "b", "scratch")], [make(4, mode="scratch", fraction=10)]]
)
def test_a_detector_without_its_baseline_is_refused(others):
    with pytest.raises(FinetuneError, match=r"\d detectors from scratch, and none of them with this backbone"):
        differences_from_scratch([make(1), *others], n_resamples=20)


def test_other_test_images_are_refused():
    with pytest.raises(FinetuneError, match="the runs were not tested on the same images and classes"):
        sweep_differences([make(1)], [make(1, classes=("b", "a"))])


def test_the_figure_shows_the_differences():
    runs = [make(1), make(4, mode="scratch"), make(2, dataset="other"), make(3, mode="scratch", dataset="other")]
    plate = difference_plate(runs, n_resamples=20)
    expected = differences_from_scratch(runs, n_resamples=20)
    for axes, (title, rows) in zip(plate.figure.axes, expected.items(), strict=True):
        assert axes.get_title() == title
        (container,) = axes.containers
        (row,) = rows.values()
        line, _, (bars,) = container.lines
        np.testing.assert_allclose(line.get_xdata(orig=False), SWEEP)
        np.testing.assert_allclose(line.get_ydata(orig=False), [one.value for one in row.values()])
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, [(min(one.low, one.value), max(one.high, one.value)) for one in row.values()])
        low, high = axes.get_ylim()
        assert low < ends.min()
        assert high > ends.max()
    assert "95% intervals of a paired bootstrap over the test images (20 resamples)" in plate.caption
    assert "vit on radio, vit on other" in plate.caption
    assert "radio (all), 12 test images" in plate.alt


def test_baselines_alone_make_no_figure():
    with pytest.raises(FinetuneError, match="there are no differences to draw"):
        difference_plate([make(1, mode="scratch")])
