"""What a report shows of detectors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from featurestore.errors import FinetuneError
from finetune.detection.differences import differences_from_scratch
from finetune.detection.evaluation import SWEEP
from studies.report.detection import detection_figures, detection_tables, difference_figure


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


def test_the_figure_shows_the_differences(make_run):
    runs = [
        make_run(1),
        make_run(4, mode="scratch"),
        make_run(2, dataset="other"),
        make_run(3, mode="scratch", dataset="other"),
    ]
    drawn = difference_figure(runs, n_resamples=20)
    expected = differences_from_scratch(runs, n_resamples=20)
    for axes, (title, rows) in zip(drawn.figure.axes, expected.items(), strict=True):
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
    assert "95% intervals of a paired bootstrap over the test images (20 resamples)" in drawn.caption
    assert "vit on radio, vit on other" in drawn.caption
    assert "radio (all), 12 test images" in drawn.alt


def test_baselines_alone_make_no_figure(make_run):
    with pytest.raises(FinetuneError, match="there are no differences to draw"):
        difference_figure([make_run(1, mode="scratch")])
