"""What the report says of a study, against numbers from scikit-learn."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from featurestore.extraction.embedding import Costs
from probes.projection import Projection
from studies.report.contents import (
    best_runs,
    cost,
    headline,
    order_subjects,
    probe_figures,
    projection_figures,
    provenance,
    table,
    unreadable,
    write_study_report,
)


def macro_f1(run):
    return f1_score(run.truth, run.predicted, average="macro")


@pytest.fixture
def runs(make_grid):
    return make_grid(("linear", "mlp", "knn"), ("full-224", "center-224"))


@pytest.fixture
def feature_sets(make_features, make_key):
    labels = np.arange(60) % 3
    return [
        make_features(labels, variant=variant, key=make_key(preprocessing={"crop": variant}), unreadable=unread)
        for variant, unread in (("full-224", {"bad.png": "truncated"}), ("center-224", {"worse.png": "empty"}))
    ]


@pytest.fixture
def projections(feature_sets):
    parameters = {"n_components": 2, "n_neighbors": 15, "min_dist": 0.1, "seed": 0}
    return [Projection(f.values[:, :2], f.values[:, :2], np.array([0.5, 0.25]), parameters) for f in feature_sets]


def test_the_best_head_has_the_highest_mean_at_the_largest_fraction(runs):
    best = best_runs(runs)
    heads = {(run.variant, run.head) for run in runs}
    means = {
        head: np.mean([macro_f1(run) for run in runs if (run.variant, run.head) == head and run.fraction == 100])
        for head in heads
    }
    assert {(run.variant, run.head) for run in best} == {max(means, key=means.get)}
    assert [(run.fraction, run.seed) for run in best] == [(100, 0), (100, 1), (100, 2)]


def test_the_headline_states_score_interval_runs_test_images_and_that_it_was_chosen(runs):
    text = headline(runs)
    scores = [macro_f1(run) for run in best_runs(runs)]
    assert f"macro-F1 {np.mean(scores):.3f} [{min(scores):.3f}-{max(scores):.3f}]" in text
    assert "mean [min-max] of 3 runs on 90 test images." in text
    assert "best of 6 heads, chosen by these same test images" in text


def test_the_headline_of_a_single_head_was_not_chosen(make_grid):
    text = headline(make_grid(seeds=1))
    assert text.endswith("of 1 run on 90 test images.")


def test_datasets_and_label_schemes_are_kept_apart(make_grid):
    runs = [*make_grid(scheme="peaks"), *make_grid(dataset="a"), *make_grid(scheme="kind")]
    parts = order_subjects(runs)
    assert [{(run.dataset, run.scheme) for run in part} for part in parts] == [
        {("a", "kind")}, {("toy", "kind")}, {("toy", "peaks")},
    ]  # fmt: skip
    assert sum(map(len, parts)) == len(runs)
    assert len({drawn.name for drawn in probe_figures(runs)}) == 9


def test_the_table_has_a_column_for_each_fraction_and_states_its_metric(runs):
    made = table(runs)
    assert list(made.frame.columns) == ["variant", "head", "10 %", "100 %"]
    assert len(made.frame) == 6
    assert "macro-F1" in made.caption


def test_figures_of_the_probes_state_metric_runs_and_interval(runs):
    captioned_figures = probe_figures(runs)
    assert [drawn.name for drawn in captioned_figures] == [
        "toy-kind-f1-by-fraction",
        "toy-kind-f1-by-class",
        "toy-kind-confusion",
    ]
    for drawn in captioned_figures[:2]:
        assert "F1" in drawn.caption
        assert "from the minimum to the maximum over 3 runs" in drawn.caption
    best = best_runs(runs)
    recall = np.mean([np.mean(run.predicted[run.truth == 0] == 0) for run in best])
    assert f"Correct: round {recall:.0%}, bent" in captioned_figures[2].alt
    assert f"the head {best[0].head} on net_b, {best[0].variant}" in captioned_figures[2].caption


def test_names_of_figures_are_names_of_files(make_grid):
    assert all("/" not in drawn.name for drawn in probe_figures(make_grid(scheme="a/b")))


def test_the_projection_figure_has_a_panel_for_each_feature_matrix(feature_sets, projections):
    (drawn,) = projection_figures(feature_sets, projections)
    assert [axes.get_title() for axes in drawn.figure.axes] == [
        "net_b, full-224\nall 60 images", "net_b, center-224\nall 60 images",
    ]  # fmt: skip
    assert "of the first 2 principal components, which explain 75% and 75%" in drawn.caption
    assert projection_figures(feature_sets, []) == []


def test_panels_that_only_the_key_tells_apart_show_it(feature_sets, projections, make_key):
    twins = [feature_sets[0], replace(feature_sets[0], key=make_key(precision="bf16"))]
    (drawn,) = projection_figures(twins, projections)
    titles = [axes.get_title() for axes in drawn.figure.axes]
    assert all(twin.key.short in title for twin, title in zip(twins, titles, strict=True))


def test_provenance_holds_the_whole_key(feature_sets):
    facts = provenance(feature_sets)
    for matrix, (title, entry) in zip(feature_sets, facts.items(), strict=True):
        assert matrix.key.short in title
        assert entry["sha256"] == matrix.key.sha256
        assert matrix.key.to_dict().items() <= entry.items()


def test_unreadable_images_of_all_variants_are_listed_once(feature_sets):
    assert unreadable(feature_sets) == {"toy": {"bad.png": "truncated", "worse.png": "empty"}}


def test_cost_gives_seconds_and_rate_of_extractions_that_did_something():
    busy = Costs(images=50, forwards=100, load=6.0, decode=1.0, preprocess=2.0, forward=3.0, write=0.5)
    idle = Costs()
    reports = [SimpleNamespace(dataset=name, seconds=4.0, costs=c) for name, c in (("toy", busy), ("other", idle))]
    facts = cost(reports)
    assert list(facts) == ["extraction of toy"]
    assert facts["extraction of toy"]["forwards a second of wall time"] == 25.0
    assert facts["extraction of toy"]["forward, s"] == 3.0
    assert facts["extraction of toy"]["load models, s"] == 6.0


def test_a_study_report_stands_beside_its_figures(runs, feature_sets, projections, tmp_path):
    path = write_study_report(tmp_path, title="Study", runs=runs, features=feature_sets, projections=projections)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8").count("<img ") == 7
    stems = {"toy-kind-f1-by-fraction", "toy-kind-f1-by-class", "toy-kind-confusion"}
    stems |= {"figure-2-umap", "figure-3-f1", "figure-4-classes", "figure-b-precision-recall"}
    expected = {f"{stem}.{kind}" for stem in stems for kind in ("pdf", "svg", "png")}
    assert {file.name for file in (tmp_path / "figures").iterdir()} == expected
