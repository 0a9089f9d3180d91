"""Panels show the points they are given, by class."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from featurestore.errors import ProbeError
from featurestore.samples import UNLABELLED
from probes.figures.latent import umap_panels
from probes.figures.style import PALETTE


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


def test_no_projection_is_refused():
    with pytest.raises(ProbeError, match="no projection"):
        umap_panels({}, (), dataset="toy")
