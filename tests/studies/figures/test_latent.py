"""Panels show the points they are given, by class."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from featurestore.errors import ProbeError
from featurestore.samples import UNLABELLED
from probes.plotting import PALETTE
from studies.figures.latent import LatentSpace, umap_grid, umap_panels


@pytest.fixture
def points():
    labels = np.array([0] * 50 + [1] * 20 + [2] * 10 + [UNLABELLED] * 5)
    xy = np.random.default_rng(0).normal(size=(85, 2)).astype(np.float32)
    return xy, labels


def test_an_unbalanced_set_is_shown_by_a_balanced_sample(points):
    xy, labels = points
    figure = umap_panels({"net, full": (xy, labels), "net, crop": (-xy, labels)}, ("a", "b", "c"), dataset="toy")
    assert [axes.get_title() for axes in figure.axes] == [
        f"net, {name}\nclass-balanced sample, 10 a class" for name in ("full", "crop")
    ]
    groups = {group.get_label(): group for group in figure.axes[0].collections}
    assert {name: len(group.get_offsets()) for name, group in groups.items()} == {
        "a": 10,
        "b": 10,
        "c": 10,
        "no label": 5,
    }
    for label, name in [(0, "a"), (1, "b"), (2, "c"), (UNLABELLED, "no label")]:
        shown = {tuple(point) for point in groups[name].get_offsets().tolist()}
        assert shown <= {tuple(point) for point in xy[labels == label].tolist()}
    assert to_hex(groups["b"].get_facecolor()[0]) == PALETTE[1].lower()
    assert to_hex(groups["no label"].get_facecolor()[0]) == "#b8b8b8"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c", "no label"]


def test_a_balanced_set_is_shown_whole(points):
    xy, _ = points
    figure = umap_panels({"net": (xy[:80], np.arange(80) % 4)}, tuple("abcd"), dataset="toy")
    assert figure.axes[0].get_title() == "net\nall 80 images"
    assert sum(len(group.get_offsets()) for group in figure.axes[0].collections) == 80


def test_more_classes_than_colours_differ_by_marker():
    labels = np.arange(44) % 11
    classes = [f"class {i}" for i in range(11)]
    figure = umap_panels({"net": (np.eye(44, 2, dtype=np.float32), labels)}, classes, dataset="toy")
    first, ninth = figure.axes[0].collections[0], figure.axes[0].collections[8]
    assert np.array_equal(first.get_facecolor(), ninth.get_facecolor())
    assert not np.array_equal(first.get_paths()[0].vertices, ninth.get_paths()[0].vertices)


def test_a_grid_has_a_row_and_a_legend_for_each_dataset(points, find_collisions):
    xy, labels = points
    nets = ("dinov2-b", "msn-b", "mae-b", "siglip-b", "radio-b", "resnet-50")
    unbalanced = LatentSpace("radio (kind)", ("a", "b", "c"), dict.fromkeys(nets, (xy, labels)))
    balanced = LatentSpace("optical (form)", ("d", "e"), {name: (xy[:80], np.arange(80) % 2) for name in nets[:5]})
    figure = umap_grid([unbalanced, balanced])
    first, second = figure.subfigs
    assert [axes.get_title() for axes in first.axes] == list(nets)
    assert [axes.get_title() for axes in second.axes] == list(nets[:5])
    assert first.get_suptitle() == "radio (kind): class-balanced sample, 10 a class"
    assert second.get_suptitle() == "optical (form): all 80 images"
    legends = [[text.get_text() for text in part.legends[0].get_texts()] for part in figure.subfigs]
    assert legends == [["a", "b", "c", "no label"], ["d", "e"]]
    assert {len(group.get_offsets()) for group in first.axes[3].collections} == {10, 5}
    assert find_collisions(figure) == []


def test_many_panels_and_classes_wrap(find_collisions):
    xy, labels = np.eye(44, 2, dtype=np.float32), np.arange(44) % 11
    names = [f"resnet-{n}, resize=480,crop=box:0.2" for n in range(8)]
    space = LatentSpace("t", [f"class number {n}" for n in range(11)], dict.fromkeys(names, (xy, labels)))
    assert find_collisions(umap_grid([space, space])) == []


@pytest.mark.parametrize("spaces", [[], [LatentSpace("empty", (), {})]])
def test_a_grid_of_nothing_is_refused(spaces):
    with pytest.raises(ProbeError, match="no projection to draw"):
        umap_grid(spaces)


def test_no_projection_is_refused():
    with pytest.raises(ProbeError, match="no projection"):
        umap_panels({}, (), dataset="toy")


def test_classes_that_begin_with_an_underscore_or_hold_dollars_are_in_the_legend(points):
    xy, labels = points
    names = ("_artefact", "$x^2$", "__")
    for figure in (
        umap_panels({"net": (xy, labels)}, names, dataset="toy"),
        umap_grid([LatentSpace("toy", names, {"net": (xy, labels)})]),
    ):
        (legend,) = [*figure.legends, *[one for part in figure.subfigs for one in part.legends]]
        assert [text.get_text().strip() for text in legend.get_texts()] == [*names, "no label"]
        assert not any(text.get_parse_math() for text in legend.get_texts())
