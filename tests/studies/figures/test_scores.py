"""Figures hold the numbers of their runs; the numbers come from scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from featurestore.errors import ProbeError
from studies.figures.scores import confusion, f1_by_fraction, per_class_f1

HEADS = ("linear", "mlp")
VARIANTS = ("full-224", "center-224")


def macro_f1(runs, **chosen):
    """Macro-F1 of the runs with these fields."""
    runs = [run for run in runs if all(getattr(run, name) == value for name, value in chosen.items())]
    return [f1_score(run.truth, run.predicted, average="macro") for run in runs]


def bars_of(axes):
    """Label -> (data line, ends of its bars, (2, 2) each)."""
    found = {}
    for container in axes.containers:
        line, _, (bars,) = container.lines
        found[container.get_label()] = (line, [np.array(ends) for ends in bars.get_segments()])
    return found


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


# --- F1 by fraction ---------------------------------------------------------------------------------------------


def test_each_line_shows_mean_minimum_and_maximum_over_the_seeds(make_grid):
    runs = make_grid(HEADS, VARIANTS, (100, 10, 30))
    (axes,) = f1_by_fraction(runs).axes
    drawn = bars_of(axes)
    assert set(drawn) == {f"{variant}, {head}" for variant in VARIANTS for head in HEADS}
    for variant in VARIANTS:
        for head in HEADS:
            line, ends = drawn[f"{variant}, {head}"]
            scores = np.array([macro_f1(runs, variant=variant, head=head, fraction=f) for f in (10, 30, 100)])
            np.testing.assert_array_equal(line.get_xdata(orig=False), [10, 30, 100])
            np.testing.assert_allclose(line.get_ydata(orig=False), scores.mean(axis=1))
            np.testing.assert_allclose(
                np.array(ends)[:, :, 1], np.stack([scores.min(axis=1), scores.max(axis=1)], axis=1)
            )


def test_all_bars_lie_within_the_axes(make_grid):
    runs = make_grid(("linear", "whitened", "mlp", "knn"), VARIANTS)
    figure = f1_by_fraction(runs)
    scores = macro_f1(runs)
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert low < min(scores)
        assert high > max(scores)


def test_colour_tells_the_features_and_marker_the_head(make_grid):
    (axes,) = f1_by_fraction(make_grid(HEADS, VARIANTS)).axes
    looks = {
        label: (line.get_color(), line.get_marker(), line.get_linestyle()) for label, (line, _) in bars_of(axes).items()
    }
    assert len(set(looks.values())) == 4
    assert looks["full-224, linear"][0] == looks["full-224, mlp"][0] != looks["center-224, mlp"][0]
    assert looks["full-224, linear"][1:] == looks["center-224, linear"][1:] != looks["center-224, mlp"][1:]


def test_ticks_are_the_fractions_with_their_number_of_labels(make_grid):
    (axes,) = f1_by_fraction(make_grid(fractions=(1, 10, 100), seeds=2)).axes
    assert axes.get_xticks().tolist() == [1, 10, 100]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1\n(8)", "10\n(80)", "100\n(800)"]
    assert axes.get_xlabel() == "share of the training labels, % (number of labels)"
    assert "macro-F1" in axes.get_ylabel()


def test_many_lines_get_a_panel_for_each_head(make_grid):
    heads = ("linear", "whitened", "knn")
    figure = f1_by_fraction(make_grid(heads, ("a", "b", "c")))
    assert [axes.get_title() for axes in figure.axes] == list(heads)
    assert all(set(bars_of(axes)) == {"a", "b", "c"} for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]


def test_what_was_trained_from_scratch_stands_in_every_panel(make_grid, find_collisions):
    runs = [*make_grid(("linear", "mlp"), ("a", "b", "c")), *make_grid(("finetune:scratch",), ("a",), key="trained")]
    figure = f1_by_fraction(runs)
    assert [axes.get_title() for axes in figure.axes] == ["linear", "mlp"]
    assert all(set(bars_of(axes)) == {"a", "b", "c", "a, from scratch"} for axes in figure.axes)
    assert find_collisions(figure) == []


def test_lines_that_differ_by_key_alone_are_told_apart_by_it(make_grid):
    (axes,) = f1_by_fraction([*make_grid(key="0123"), *make_grid(key="4567")]).axes
    assert set(bars_of(axes)) == {"net_b, full-224, 0123, linear", "net_b, full-224, 4567, linear"}


@pytest.mark.parametrize(("seeds", "words"), [(1, "1 run each"), (3, "3 runs each")])
def test_the_title_states_dataset_metric_test_images_and_runs(make_grid, seeds, words):
    title = f1_by_fraction(make_grid(seeds=seeds)).get_suptitle()
    assert title == f"toy (kind): macro-F1\non 90 test images, {words}"


def test_unequal_numbers_of_runs_are_stated(make_grid):
    assert "2 to 3 runs each" in f1_by_fraction(make_grid()[:-1]).get_suptitle()


# --- F1 by class ------------------------------------------------------------------------------------------------


def test_dots_show_the_f1_of_each_class_at_the_largest_fraction(make_grid):
    runs = make_grid(HEADS)
    (axes,) = per_class_f1(runs).axes
    for head in HEADS:
        line, ends = bars_of(axes)[f"net_b, full-224, {head}"]
        chosen = [run for run in runs if run.head == head and run.fraction == 100]
        scores = np.array([f1_score(run.truth, run.predicted, average=None) for run in chosen])
        np.testing.assert_allclose(line.get_xdata(orig=False), scores.mean(axis=0))
        np.testing.assert_array_equal(np.round(line.get_ydata(orig=False)), [0, 1, 2])
        np.testing.assert_allclose(np.array(ends)[:, :, 0], np.stack([scores.min(axis=0), scores.max(axis=0)], axis=1))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["round (30)", "bent (30)", "double (30)"]


def test_another_fraction_can_be_chosen(make_grid):
    runs = make_grid()
    figure = per_class_f1(runs, 10)
    assert "10 % of the labels" in figure.get_suptitle()
    line, _ = bars_of(figure.axes[0])["net_b, full-224, linear"]
    assert np.mean(line.get_xdata(orig=False)) == pytest.approx(np.mean(macro_f1(runs, fraction=10)))
    with pytest.raises(ProbeError, match="no runs on 50 % of the labels"):
        per_class_f1(runs, 50)


def test_a_class_without_test_images_has_no_dot(make_grid):
    (axes,) = per_class_f1(make_grid(truth=np.arange(40) % 2)).axes
    line, _ = bars_of(axes)["net_b, full-224, linear"]
    assert np.isnan(line.get_xdata(orig=False)).tolist() == [False, False, True]
    assert axes.get_yticklabels()[2].get_text() == "double (0)"


# --- confusion matrix -------------------------------------------------------------------------------------------


def test_the_confusion_matrix_sums_the_runs_of_the_largest_fraction(make_grid):
    runs = make_grid(truth=np.array([0] * 50 + [1] * 30 + [2] * 20))
    figure = confusion(runs)
    largest = [run for run in runs if run.fraction == 100]
    counts = sum(confusion_matrix(run.truth, run.predicted) for run in largest)
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), shares)
    expected = [f"{share:.0f} %\n{count}" for share, count in zip(shares.flat, counts.flat, strict=True)]
    assert texts_of(figure.axes[0]) == expected
    assert "3 runs summed" in figure.get_suptitle()


def test_a_true_class_without_test_images_has_no_share(make_grid):
    figure = confusion(make_grid(truth=np.arange(40) % 2))
    assert texts_of(figure.axes[0])[6:] == ["-"] * 3


@pytest.mark.parametrize("axis", [{"heads": HEADS}, {"variants": VARIANTS}])
def test_a_confusion_matrix_of_two_heads_is_refused(make_grid, axis):
    with pytest.raises(ProbeError, match="shows one head"):
        confusion(make_grid(**axis))


@pytest.mark.parametrize("draw", [f1_by_fraction, per_class_f1])
def test_figures_of_two_datasets_are_refused(make_grid, draw):
    with pytest.raises(ProbeError, match="one dataset"):
        draw([*make_grid(), *make_grid(dataset="other")])


@pytest.mark.parametrize("draw", [f1_by_fraction, per_class_f1, confusion])
def test_figures_of_nothing_are_refused(draw):
    with pytest.raises(ProbeError, match="there are no runs"):
        draw([])


def test_backbones_that_begin_with_an_underscore_are_in_the_legend(make_grid):
    runs = [*make_grid(backbone="_mine"), *make_grid(backbone="net_b")]
    (legend,) = f1_by_fraction(runs).legends
    assert {text.get_text().strip().partition(",")[0] for text in legend.get_texts()} == {"_mine", "net_b"}
