"""Learning curves as a figure."""

from __future__ import annotations

import numpy as np
import pytest

from probes.statistics.configurations import gather_configurations
from probes.statistics.learning_curve import fit_curve, gather_curves
from studies.figures.curves import BEYOND, fitted_curves


@pytest.fixture
def curves(make_runs):
    wrong = {10: 150, 30: 110, 50: 95, 100: 80}
    runs = [
        run
        for head in ("linear", "mlp")
        for number, backbone in enumerate(("dinov2-s", "resnet-50"))
        for fraction, n in wrong.items()
        for run in make_runs(wrong=n - 20 * number, head=head, backbone=backbone, fraction=fraction)
    ]
    return [fit_curve(lines, n_resamples=50) for lines in gather_curves(gather_configurations(runs)[0])]


def test_marks_are_measured_and_lines_are_fitted(curves):
    figure = fitted_curves(curves)
    assert [axes.get_title() for axes in figure.axes] == ["linear", "mlp"]
    solid, dashed, marks = figure.axes[0].get_lines()[:3]
    assert marks.get_xdata().tolist() == [80, 240, 400, 800]
    assert marks.get_ydata() == pytest.approx(curves[0].scores)
    assert marks.get_label() == "dinov2-s"
    assert solid.get_ydata() == pytest.approx(curves[0].predict(np.asarray(solid.get_xdata()))[0])
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert dashed.get_xdata()[[0, -1]] == pytest.approx([800, BEYOND * 800])


def test_one_look_for_each_backbone_and_no_text_is_lost(curves, find_collisions):
    figure = fitted_curves(curves)
    colours = [[line.get_color() for line in axes.get_lines()] for axes in figure.axes]
    assert colours[0] == colours[1]
    assert len(set(colours[0])) == 2
    assert find_collisions(figure) == []


def test_a_single_curve_has_the_name_of_its_backbone(curves):
    (axes,) = fitted_curves(curves[:1]).axes
    assert axes.get_legend_handles_labels()[1] == ["dinov2-s"]
