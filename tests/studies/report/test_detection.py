"""What a report shows of detectors."""

from __future__ import annotations

import pandas as pd

from studies.report.detection import detection_figures, detection_tables


def test_each_dataset_has_a_table_with_its_detectors(make_run):
    runs = [make_run(1), make_run(2, seed=1), make_run(4, mode="scratch"), make_run(3, dataset="other")]
    radio, other = detection_tables(runs)
    assert radio.caption.startswith("radio: mAP")
    assert other.caption.startswith("other: mAP")
    assert dict(zip(radio.frame["head"], radio.frame["runs"], strict=True)) == {"detect:frozen": 2, "detect:scratch": 1}
    frozen = radio.frame[radio.frame["head"] == "detect:frozen"]["mAP@50 [min-max]"].item()
    scores = pd.Series([run.scores.map50 for run in runs[:2]])
    assert frozen == f"{scores.mean():.3f} [{scores.min():.3f}-{scores.max():.3f}]"


def test_views_and_variants_are_kept_apart(make_run):
    runs = [make_run(1), make_run(2, view="source", classes=("a", "b")), make_run(2, variant="resize=96")]
    captioned_figures = detection_figures(runs, lambda _: None)
    assert [drawn.name for drawn in captioned_figures] == [
        "radio-all-resize=64-iou", "radio-source-resize=64-iou", "radio-all-resize=96-iou",
    ]  # fmt: skip
    assert "12 test images" in captioned_figures[0].caption


def test_differences_are_drawn_where_there_is_a_baseline_and_missed_aloud(make_run):
    told = []
    captioned_figures = detection_figures([make_run(1), make_run(4, mode="scratch")], told.append)
    assert [drawn.name for drawn in captioned_figures][-1] == "figure-c-map-difference"
    assert told == []
    two = [make_run(4, "a", "scratch"), make_run(4, "b", "scratch")]
    captioned_figures = detection_figures([make_run(1), *two], told.append)
    assert len(captioned_figures) == 1
    assert len(told) == 1
    assert told[0].startswith("No differences from networks trained from scratch are drawn: 2 detectors from scratch")
