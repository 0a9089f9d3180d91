"""Differences from the network trained from scratch, against COCO's own average precision."""

from __future__ import annotations

import numpy as np
import pytest

from featurestore.errors import FinetuneError
from finetune.detection.differences import differences_from_scratch, sweep_differences
from finetune.detection.evaluation import SWEEP


def test_differences_are_those_of_coco_at_every_threshold(make_run):
    first, second = [make_run(4, mode="scratch"), make_run(5, mode="scratch", seed=1)], [make_run(1)]
    sweep = sweep_differences(first, second, n_resamples=20)
    for iou in SWEEP:
        expected = second[0].scores.sweep[iou] - np.mean([run.scores.sweep[iou] for run in first])
        assert sweep[iou].value == pytest.approx(expected)
        assert sweep[iou].metric == f"map_iou{iou}"
        assert sweep[iou].low <= sweep[iou].high
    assert sweep[0.7].low > 0


def test_equal_detectors_do_not_differ(make_run):
    for one in sweep_differences([make_run(3)], [make_run(3)], n_resamples=20).values():
        assert (one.low, one.value, one.high) == (0, 0, 0)


def test_each_detector_is_compared_with_its_own_network(make_run):
    runs = [
        make_run(1),
        make_run(1, seed=1),
        make_run(3, "resnet", "tuned"),
        make_run(4, mode="scratch"),
        make_run(5, "resnet", "scratch"),
    ]
    (found,) = differences_from_scratch(runs, n_resamples=20).values()
    assert list(found) == ["vit, frozen (2 runs)", "resnet, tuned (1 run)"]
    for name, own, baseline in [
        ("vit, frozen (2 runs)", runs[:2], runs[3]),
        ("resnet, tuned (1 run)", [runs[2]], runs[4]),
    ]:
        expected = np.mean([run.scores.map50 for run in own]) - baseline.scores.map50
        assert found[name][0.5].value == pytest.approx(expected)


def test_one_network_from_scratch_serves_all(make_run):
    runs = [make_run(1), make_run(2, "resnet"), make_run(4, "vit-random", "scratch")]
    (found,) = differences_from_scratch(runs, n_resamples=20).values()
    assert list(found) == ["vit, frozen (1 run)", "resnet, frozen (1 run)"]


@pytest.mark.parametrize("others", [[], [{"backbone": "a"}, {"backbone": "b"}], [{"fraction": 10}]])
def test_a_detector_without_its_baseline_is_refused(make_run, others):
    baselines = [make_run(4, mode="scratch", **other) for other in others]
    with pytest.raises(FinetuneError, match=r"\d detectors from scratch, and none of them with this backbone"):
        differences_from_scratch([make_run(1), *baselines], n_resamples=20)


def test_other_test_images_are_refused(make_run):
    with pytest.raises(FinetuneError, match="the runs were not tested on the same images and classes"):
        sweep_differences([make_run(1)], [make_run(1, classes=("b", "a"))])


def test_two_detectors_from_scratch_with_other_settings_are_no_baseline(make_run):
    baselines = [make_run(4, mode="scratch", method="a"), make_run(5, mode="scratch", method="b")]
    with pytest.raises(FinetuneError, match="several detectors from scratch have this backbone, with other settings"):
        differences_from_scratch([make_run(1), *baselines], n_resamples=20)
