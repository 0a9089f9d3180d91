from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from featurestore.errors import FinetuneError
from finetune.detection.evaluation import SWEEP, THRESHOLDS, DetectionScores, match_detections
from finetune.detection.figures import COLOURS, completeness_reliability, detection_sheet, iou_sweep, training_curves
from finetune.detection.targets import AnnotatedImage, Detections
from probes.plotting import save_figure

BOXES = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 90, 90]], np.float32)
TRUTH = AnnotatedImage(
    0, "folder/a.png", (100, 100), BOXES, np.zeros(3, np.int64), np.array([0, 0, 1], bool), np.array([3.0, 1.0, 9.0])
)
FOUND = Detections(
    np.array([[0, 0, 10, 9], [70, 0, 80, 9], [60, 60, 70, 70], [20, 20, 30, 30]], np.float32),
    np.zeros(4, np.int64),
    np.array([0.9, 0.8, 0.7, 0.3], np.float32),
)
MATCHES = match_detections([TRUTH], [FOUND])


def scores(value):
    return DetectionScores(("u",), np.full((len(THRESHOLDS), 1), value), np.array([2]))


def test_training_curves_show_what_was_measured(tmp_path):
    history = pd.DataFrame({
        "epoch": [1, 2, 3], "loss_objectness": [0.7, 0.5, 0.2], "loss_box_reg": [0.1, 0.2, 0.3],
        "loss": [1.0, 1, 1], "score": [np.nan, 0.2, 0.4],
    })  # fmt: skip
    figure = training_curves(history, "a detector")
    losses, score = figure.axes
    assert [line.get_ydata().tolist() for line in losses.lines] == [[0.7, 0.5, 0.2], [0.1, 0.2, 0.3]]
    assert score.lines[0].get_xdata().tolist() == [2, 3]
    labels = {text.get_text() for text in losses.get_yticklabels()}
    assert {"0.1", "0.2", "0.5"} <= labels  # numbers, not the source of formulas
    assert set(save_figure(figure, tmp_path, "training")) == {"pdf", "svg", "png"}


def test_sweep_is_a_mean_over_runs():
    figure = iou_sweep({"frozen": [scores(0.2), scores(0.4)], "scratch": [scores(0.1)]}, "a set")
    lines = [container.lines[0] for container in figure.axes[0].containers]
    assert [line.get_xdata().tolist() for line in lines] == [list(SWEEP)] * 2
    for line, expected in zip(lines, (0.3, 0.1), strict=True):
        np.testing.assert_allclose(line.get_ydata(), expected)


def test_a_sweep_needs_a_detector():
    with pytest.raises(FinetuneError, match=r"there is no detector to draw"):
        iou_sweep({}, "a set")


def test_completeness_and_reliability_by_bins():
    figure = completeness_reliability(
        MATCHES, TRUTH.flux[:2], np.array([3.0, 1.0, 2.0, 1.0]), quantity="flux, Jy", threshold=0.5, title="a set"
    )
    complete, reliable = (line.get_ydata() for line in figure.axes[0].lines)
    np.testing.assert_array_equal(complete, [0, 1])  # the faint object was found below the threshold
    np.testing.assert_array_equal(reliable, [0, 1])  # the false detection is the faint one; the ignored one is left out


def test_values_that_are_not_positive():
    with pytest.raises(FinetuneError, match=r"no object has a positive value \[flux\]"):
        completeness_reliability(MATCHES, np.full(2, np.nan), np.ones(4), quantity="flux", threshold=0.5, title="")


def test_every_kind_of_box_is_drawn():
    figure = detection_sheet([np.zeros((50, 50))], [TRUTH], [FOUND], MATCHES, threshold=0.5, title="a set")
    (axes,) = figure.axes
    drawn = {}
    for patch in axes.patches:
        kind = next(name for name, colour in COLOURS.items() if colour.lower() == to_hex(patch.get_edgecolor()))
        drawn.setdefault(kind, []).append((*patch.get_xy(), patch.get_width(), patch.get_height()))
    assert drawn == {
        "ignored": [(50, 50, 40, 40), (60, 60, 10, 10)],
        "truth": [(0, 0, 10, 10)],
        "miss": [(20, 20, 10, 10)],
        "hit": [(0, 0, 10, 9)],
        "false": [(70, 0, 10, 9)],
    }
    assert axes.get_title() == "a.png"
    assert axes.images[0].get_extent() == [0, 100, 100, 0]


def test_an_empty_sheet():
    with pytest.raises(FinetuneError, match="there are no images to draw"):
        detection_sheet([], [], [], MATCHES, threshold=0.5, title="")
