"""Figures of several datasets hold the numbers of their runs; the numbers come from scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from featurestore.errors import ProbeError
from studies.figures.comparisons import class_scores, learning_curves, scheme_scores

SCORES = {"f1": f1_score, "precision": precision_score, "recall": recall_score}


def lines_of(axes):
    return {container.get_label(): container.lines[0] for container in axes.containers}


def bars_of(axes, label):
    """Ends (n, 2, 2) of the bars of one label."""
    (container,) = [one for one in axes.containers if one.get_label() == label]
    return np.array([ends for ends in container.lines[2][0].get_segments() if len(ends)])


def test_each_dataset_has_a_panel_and_each_backbone_a_line(make_study):
    runs = make_study()
    figure = learning_curves(runs)
    for axes, name in zip(figure.axes, ("galaxy_mnist", "rgz"), strict=True):
        assert axes.get_title() == f"{name} (morphology)\n120 test images"
        lines = lines_of(axes)
        assert list(lines) == [
            "dinov2-b", "msn-b", "mae-b", "siglip-b", "radio-b", "resnet-50", "resnet-50, from scratch",
        ]  # fmt: skip
        chosen = [run for run in runs if run.dataset == name and run.backbone == "mae-b"]
        scores = [
            [f1_score(r.truth, r.predicted, average="macro") for r in chosen if r.fraction == f] for f in (10, 100)
        ]
        np.testing.assert_allclose(lines["mae-b"].get_ydata(orig=False), np.mean(scores, axis=1))
        ends = bars_of(axes, "mae-b")[:, :, 1]
        np.testing.assert_allclose(ends, np.stack([np.min(scores, axis=1), np.max(scores, axis=1)], axis=1))
        low, high = axes.get_ylim()
        assert low < ends.min()
        assert high > ends.max()
    assert figure.get_suptitle() == "macro-F1: marks are means, bars min to max over 2 runs each"


def test_what_was_trained_from_scratch_looks_like_nothing_else(make_study):
    lines = lines_of(learning_curves(make_study()).axes[0])
    scratch = lines.pop("resnet-50, from scratch")
    assert all(line.get_linestyle() != scratch.get_linestyle() for line in lines.values())
    assert all(line.get_color() != scratch.get_color() for line in lines.values())
    assert len({line.get_color() for line in lines.values()}) == len(lines)


def test_precision_and_recall_stand_side_by_side(make_study):
    runs = make_study()
    figure = learning_curves(runs, ("precision", "recall"))
    assert [axes.get_ylabel() for axes in figure.axes] == ["macro-precision", "macro-recall"] * 2
    chosen = [run for run in runs if (run.dataset, run.backbone, run.fraction) == ("rgz", "siglip-b", 100)]
    for axes, metric in zip(figure.axes[2:], ("precision", "recall"), strict=True):
        expected = np.mean([SCORES[metric](run.truth, run.predicted, average="macro") for run in chosen])
        assert lines_of(axes)["siglip-b"].get_ydata(orig=False)[1] == pytest.approx(expected)


def test_classes_are_grouped_by_backbone(make_study):
    runs = make_study()
    figure = class_scores(runs)
    radio = figure.axes[1]
    assert radio.get_legend().get_texts()[0].get_text() == "1C-1P (20)"
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == ["dinov2-b", "msn-b", "mae-b", "siglip-b", "radio-b", "resnet-50", "resnet-50, from scratch"]
    chosen = [run for run in runs if (run.dataset, run.backbone, run.fraction) == ("rgz", "mae-b", 100)]
    scores = np.array([f1_score(run.truth, run.predicted, average=None) for run in chosen])
    for index, label in enumerate(lines_of(radio)):
        line = lines_of(radio)[label]
        assert round(line.get_ydata(orig=False)[2]) == 2
        assert line.get_xdata(orig=False)[2] == pytest.approx(scores[:, index].mean())
        np.testing.assert_allclose(bars_of(radio, label)[2, :, 0], [scores[:, index].min(), scores[:, index].max()])
    assert "100 % of the labels" in figure.get_suptitle()


def test_several_heads_have_rows_of_their_own(make_study):
    (axes,) = class_scores(make_study(("rgz",), heads=("linear", "mlp"))).axes
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows[:2] == ["dinov2-b, linear", "dinov2-b, mlp"]
    assert rows[-1] == "resnet-50, from scratch"


def test_a_backbone_without_runs_on_one_dataset_has_no_dot_there(make_study):
    runs = [run for run in make_study() if (run.dataset, run.backbone) != ("rgz", "mae-b")]
    galaxies, radio = class_scores(runs).axes
    assert "mae-b" in [label.get_text() for label in galaxies.get_yticklabels()]
    assert "mae-b" not in [label.get_text() for label in radio.get_yticklabels()]


def test_label_schemes_are_grouped_by_backbone(make_study):
    runs = [
        *make_study(("rgz",), "components-peaks"),
        *make_study(("rgz",), "peaks", classes=("1", "2", "3")),
    ]
    (axes,) = scheme_scores(runs).axes
    lines = lines_of(axes)
    assert list(lines) == ["components-peaks (6 classes)", "peaks (3 classes)"]
    chosen = [run for run in runs if (run.scheme, run.backbone, run.fraction) == ("peaks", "dinov2-b", 100)]
    expected = np.mean([f1_score(run.truth, run.predicted, average="macro") for run in chosen])
    assert lines["peaks (3 classes)"].get_xdata(orig=False)[0] == pytest.approx(expected)
    assert axes.get_title() == "rgz, 120 test images"


def test_one_label_scheme_is_no_comparison(make_study):
    with pytest.raises(ProbeError, match="there is one label scheme only"):
        scheme_scores(make_study(("rgz",)))


@pytest.mark.parametrize("draw", [learning_curves, class_scores])
def test_figures_of_nothing_are_refused(draw):
    with pytest.raises(ProbeError, match="there are no runs"):
        draw([])


@pytest.mark.parametrize("variants", [("full-224",), ("resize=224,stretch=percentile:1:99+asinh:0.1", "full-224")])
@pytest.mark.parametrize("draw", [learning_curves, class_scores])
def test_no_text_hides_another(make_study, find_collisions, draw, variants):
    assert find_collisions(draw(make_study(variants=variants))) == []


def test_no_text_hides_another_in_figures_of_label_schemes(make_study, find_collisions):
    runs = [run for scheme in ("components-peaks", "peaks", "components") for run in make_study(("rgz",), scheme)]
    assert find_collisions(scheme_scores(runs)) == []


def test_more_backbones_than_colours_differ_by_the_filling_of_their_marks(make_grid):
    runs = [run for index in range(50) for run in make_grid(backbone=f"net{index}", fractions=(100,), seeds=1)]
    lines = lines_of(learning_curves(runs).axes[0])
    assert len({(line.get_color(), line.get_fillstyle()) for line in list(lines.values())[:48]}) == 48


def test_features_are_told_apart_by_pooling_where_only_that_differs(make_grid):
    runs = [run for pooling in ("cls", "avg_patch") for run in make_grid(pooling=pooling, key=pooling)]
    trained = make_grid(("finetune:scratch",), pooling="avgpool", protocol="supervised", key="trained")
    assert list(lines_of(learning_curves([*runs, *trained]).axes[0])) == ["cls", "avg_patch", "avgpool, from scratch"]
