from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featurestore.errors import FinetuneError
from featurestore.training_rows import SEEN
from finetune.detection.results import DetectionRun, by_detector, compare, format_table, show, summarise, to_frame
from finetune.detection.targets import AnnotatedImage, Detections
from probes.results.run import IDENTITY
from probes.results.run import to_frame as probe_frame

BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)


def truth(row):
    return AnnotatedImage(row, f"{row}.png", (50, 50), BOXES, np.array([0, 1]), np.zeros(2, bool), np.full(2, np.nan))


def found(count, score=0.9):
    return Detections(BOXES[:count], np.arange(count), np.full(count, score, np.float32))


def run(counts=(2, 1), **changes):
    annotated = tuple(truth(row) for row in range(len(counts)))
    own = DetectionRun(
        "radio", "resize=64", "lite0", "frozen", "all", 100, 0, 7, ("a", "b"), annotated,
        tuple(found(count) for count in counts), params={"epochs": 3}, seconds=2.0,
    )  # fmt: skip
    return replace(own, **changes)


def value(frame, metric, name):
    (row,) = frame[(frame["metric"] == metric) & (frame["class"] == name)]["value"]
    return row


def test_rows_stand_in_the_columns_of_the_probes():
    frame = to_frame([run()])
    assert list(frame.columns) == list(probe_frame([]).columns)
    first = frame.iloc[0]
    assert [first[name] for name in IDENTITY] == [
        "radio", "resize=64", "lite0", "dense", "", "boxes:all", "detect:frozen", "paper", 100, 0,
    ]  # fmt: skip
    assert (first["n_train"], first["n_test"], first["params"]) == (7, 2, '{"epochs": 3, "max_detections": 100}')


def test_scores_of_a_run():
    """Class a is found in both images, class b in one of two: its precision is 1 up to recall 1/2, 51 points of 101."""
    frame = to_frame([run()])
    assert value(frame, "ap50", "a") == 1
    assert value(frame, "ap50", "b") == pytest.approx(51 / 101)
    assert value(frame, "ap", "b") == pytest.approx(51 / 101)
    assert value(frame, "map50", "macro") == pytest.approx((1 + 51 / 101) / 2)
    assert value(frame, "map_iou0.1", "macro") == value(frame, "map_iou0.9", "macro") == value(frame, "map", "macro")
    assert value(frame, "completeness", "all") == 0.75
    assert value(frame, "reliability", "all") == 1
    assert value(frame, "support", "a") == 2
    assert value(frame, "support", "all") == 4


def test_the_threshold_counts():
    frame = to_frame([run(detections=(found(2, 0.4), found(2, 0.9)))])
    assert value(frame, "completeness", "all") == 0.5
    assert value(to_frame([run(detections=(found(2, 0.4),) * 2, threshold=0.3)]), "completeness", "all") == 1


def test_summary_over_seeds():
    runs = [run((2, 2)), run((2, 1), seed=1), run((1, 1), mode="scratch")]
    summary = summarise(runs)
    frozen, scratch = summary.to_dict("records")
    assert (frozen["head"], frozen["runs"]) == ("detect:frozen", 2)
    assert (scratch["head"], scratch["runs"]) == ("detect:scratch", 1)
    low, high = runs[1].scores.map50, 1.0
    assert (frozen["map50_min"], frozen["map50"], frozen["map50_max"]) == pytest.approx((low, (low + high) / 2, high))
    assert (frozen["completeness"], scratch["completeness"]) == (0.875, 0.5)
    text = format_table(summary)
    assert text.startswith("radio: mAP on the test images, means over runs")
    assert "0.876 [0.752-1.000]" in text
    assert "detect:scratch" in text


def test_comparison_of_two_detectors():
    better, worse = [run((2, 2)), run((2, 2), seed=1)], [run((1, 1), mode="scratch")]
    difference = compare(worse, better, n_resamples=50)
    assert difference.value == pytest.approx(0.5)
    assert difference.metric == "map50"


@pytest.mark.parametrize("others", [[], [run((2,))], [run(classes=("b", "a"))]])
def test_what_cannot_be_compared(others):
    with pytest.raises(FinetuneError, match="the runs were not tested on the same images and classes"):
        compare([run()], others)


def test_detectors_of_other_settings_are_never_averaged():
    """A store may hold several, of other epochs, weights or boxes; older ones are told by their options."""
    runs = [run((2, 2), params={"epochs": 5}), run((1, 1), params={"epochs": 50}), run((1, 1), method="abcdef")]
    summary = summarise(runs)
    assert summary["runs"].tolist() == [1, 1, 1]
    assert summary["settings"].nunique() == 3
    assert sorted(summary["completeness"]) == [0.5, 0.5, 1.0]
    assert "abcdef" in show(summary).frame["settings"].tolist()
    names = [name for name, _ in by_detector(runs)]
    assert names[2] == "lite0, frozen, 100 %, settings abcdef"
    assert len(set(names)) == 3


def test_settings_are_not_shown_where_there_is_one():
    summary = summarise([run(method="abcdef"), run(method="abcdef", seed=1)])
    assert summary["runs"].tolist() == [2]
    assert "settings" not in show(summary).frame
    assert [name for name, _ in by_detector([run(method="abcdef")])] == ["lite0, frozen, 100 %"]


def test_test_images_that_a_backbone_was_trained_on_are_told():
    seen = [run(params={"epochs": 3, SEEN: 2}), run(params={"epochs": 3, SEEN: 2}, seed=1)]
    summary = summarise([*seen, run(mode="scratch")])
    assert summary[SEEN].tolist() == ["2", "0"]
    assert show(summary).frame[SEEN].tolist() == ["2", "0"]
    assert SEEN in format_table(summary)
    assert SEEN not in summarise([run()])
