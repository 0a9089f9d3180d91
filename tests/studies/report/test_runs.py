"""What a report shows of runs, against numbers from scikit-learn."""

import numpy as np
from sklearn.metrics import f1_score

from studies.report.runs import best_runs, headline, order_subjects, probe_figures, table


def macro_f1(run):
    return f1_score(run.truth, run.predicted, average="macro")


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
