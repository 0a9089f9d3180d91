"""The figures of the study say what they show, against numbers from scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from featurestore.errors import ProbeError
from probes.statistics.configurations import gather_configurations
from probes.statistics.learning_curve import fit_curve
from studies.images.gallery import Gallery
from studies.images.histogram import count_values
from studies.report.captioned_figures import fitted_figures, study_figures

SCORES = ("figure-3-f1", "figure-4-classes", "figure-b-precision-recall")


def macro_f1(runs):
    return np.mean([f1_score(run.truth, run.predicted, average="macro") for run in runs])


@pytest.fixture
def runs(make_grid):
    """Two backbones with two heads each on two variants, and one from scratch."""
    probes = [run for net in ("net_a", "net_b") for run in make_grid(("linear", "mlp"), ("full", "crop"), backbone=net)]
    return [*probes, *make_grid(("finetune:scratch",), ("full", "crop"), backbone="net_b")]


@pytest.fixture
def gallery():
    rng = np.random.default_rng(0)
    return Gallery(
        dataset="toy", variant="full", scheme="kind", classes=("a", "b"), n_images=90, seed=0, sample_ids=("s1", "s2"),
        labels=np.array([0, 1]), pictures=np.zeros((2, 8, 8, 3), np.uint8), raw=np.zeros((8, 8, 3), np.uint8),
        boxes=np.empty((0, 4), np.float32), box_rows=np.empty(0, np.int64),
        histogram=count_values([rng.normal(size=(8, 8))]), unreadable={"s3": "truncated"},
    )  # fmt: skip


def by_name(captioned_figures):
    return {drawn.name: drawn for drawn in captioned_figures}


def test_without_runs_or_images_there_is_nothing_to_show():
    assert study_figures([]) == []


def test_runs_of_one_scheme_make_three_figures(runs):
    captioned_figures = by_name(study_figures(runs))
    assert tuple(captioned_figures) == SCORES
    for drawn in captioned_figures.values():
        assert "toy (kind; 90 test images)" in drawn.caption
        assert "bars go from the minimum to the maximum over 3 runs" in drawn.caption
        assert "of the head linear (cv) on full" in drawn.caption


@pytest.mark.parametrize(("head", "variant"), [("mlp", "full"), ("linear", "crop")])
def test_one_head_and_one_variant_are_compared_with_training_from_scratch(runs, head, variant):
    captioned_figures = by_name(study_figures(runs, head=head, variant=variant))
    (axes,) = captioned_figures["figure-3-f1"].figure.axes
    lines = {container.get_label(): container.lines[0].get_ydata(orig=False)[-1] for container in axes.containers}
    assert set(lines) == {"net_a", "net_b", "net_b, from scratch"}
    for label, backbone, name in [("net_a", "net_a", head), ("net_b, from scratch", "net_b", "finetune:scratch")]:
        wanted = (backbone, name, variant, 100)
        chosen = [run for run in runs if (run.backbone, run.head, run.variant, run.fraction) == wanted]
        assert lines[label] == pytest.approx(macro_f1(chosen))
    best = max(lines, key=lines.get)
    assert f"toy (kind), {best}, {lines[best]:.3f}" in captioned_figures["figure-3-f1"].alt
    assert "Dotted: networks trained from scratch." in captioned_figures["figure-3-f1"].caption


def test_without_training_from_scratch_there_is_no_word_of_it(make_grid):
    assert "scratch" not in by_name(study_figures(make_grid()))["figure-3-f1"].caption


def test_training_from_scratch_alone_is_shown(make_grid):
    assert len(study_figures(make_grid(("finetune:scratch",)))) == 3


def test_an_unknown_head_is_refused(make_grid):
    with pytest.raises(ProbeError, match="there are no runs to draw"):
        study_figures(make_grid(), head="knn")


def test_label_schemes_are_compared_where_there_are_several(make_grid):
    runs = [*make_grid(), *make_grid(scheme="size"), *make_grid(dataset="other")]
    captioned_figures = by_name(study_figures(runs))
    assert tuple(captioned_figures) == (*SCORES[:2], "figure-5-schemes", SCORES[2])
    assert [axes.get_title() for axes in captioned_figures["figure-5-schemes"].figure.axes] == ["toy, 90 test images"]
    titles = [axes.get_title() for axes in captioned_figures["figure-3-f1"].figure.axes]
    assert titles == ["toy (kind)\n90 test images", "other (kind)\n90 test images"]
    shown = by_name(study_figures(runs[: len(runs) * 2 // 3], scheme="size"))["figure-4-classes"]
    assert [axes.get_title() for axes in shown.figure.axes] == ["toy (size)\n90 test images"]


def test_images_come_first_and_name_what_was_passed_over(make_grid, gallery):
    drawn = study_figures(make_grid(), galleries=[gallery])[0]
    assert drawn.name == "figure-1-samples"
    assert "s3 (truncated)" in drawn.caption
    assert f"toy, {gallery.histogram.decades:.1f} decades above the noise" in drawn.caption
    assert "toy (2 images, classes a, b)" in drawn.alt


def test_fitted_curves_have_a_figure_for_each_dataset(make_runs):
    wrong = {10: 150, 30: 110, 50: 95, 100: 80}
    curves = [
        fit_curve(
            gather_configurations([run for f, n in wrong.items() for run in make_runs(n, fraction=f, dataset=name)])[0],
            n_resamples=20,
        )
        for name in ("my galaxies", "toy")
    ]  # fmt: skip
    first, second = fitted_figures(curves)
    assert second.name == "toy-kind-learning-curves"
    assert "/" not in first.name
    assert " " not in first.name
    assert "240 test images" in first.caption
    assert "dashed where it is extrapolated" in first.caption
