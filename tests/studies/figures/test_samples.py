"""The figure shows every picture of its galleries, and bars for every count."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle, StepPatch

from featurestore.errors import ProbeError
from featurestore.samples import UNLABELLED
from probes.plotting import PALETTE
from studies.figures.samples import sample_grid
from studies.images.gallery import Gallery
from studies.images.histogram import count_values

RNG = np.random.default_rng(3)
RADIO = RNG.normal(0, 1e-5, (40, 40)).astype(np.float32)
RADIO[18:22, 18:22] = 0.1


def make(n_classes=6, per_class=2, values=RADIO, **changes):
    n = n_classes * per_class
    gallery = Gallery(
        dataset="rgz",
        variant="full-224",
        scheme="components-peaks",
        classes=tuple(f"{n}C-{n}P" for n in range(n_classes)),
        n_images=5881,
        seed=0,
        sample_ids=tuple(map(str, range(n))),
        labels=np.arange(n) // per_class,
        pictures=RNG.integers(0, 255, (n, 8, 8, 3), dtype=np.uint8),
        raw=RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8),
        boxes=np.float32([[0.25, 0.5, 0.75, 0.75]]),
        box_rows=np.array([1]),
        histogram=count_values([values]),
        unreadable={},
    )
    return replace(gallery, **changes)


def pictures_of(figure):
    return [axes for part in figure.subfigs for axes in part.axes if axes.images]


def histograms_of(figure):
    return [axes for part in figure.subfigs for axes in part.axes if not axes.images]


def test_every_picture_is_shown_below_the_name_of_its_class():
    gallery = make()
    shown = pictures_of(sample_grid([gallery]))
    assert len(shown) == 13
    by_column = {}
    for axes in shown[:-1]:
        place = axes.get_subplotspec()
        by_column.setdefault(place.colspan.start, []).append(axes)
    for label, column in by_column.items():
        assert [axes.get_title() for axes in column] == [gallery.classes[label], ""]
        for axes, picture in zip(column, gallery.pictures[gallery.labels == label], strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), picture)
    np.testing.assert_array_equal(shown[-1].images[0].get_array(), gallery.raw)


def test_boxes_are_drawn_on_their_picture():
    shown = pictures_of(sample_grid([make()]))
    drawn = [axes for axes in shown if any(isinstance(patch, Rectangle) for patch in axes.patches)]
    (box,) = drawn[0].patches
    assert len(drawn) == 1
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (0.25, 0.5, 0.5, 0.25)


def test_bars_hold_the_counts_and_negative_values_have_their_colour():
    gallery = make()
    (axes,) = histograms_of(sample_grid([gallery]))
    positive, negative = (patch for patch in axes.patches if isinstance(patch, StepPatch))
    np.testing.assert_array_equal(positive.get_data().values + negative.get_data().values, gallery.histogram.counts[0])
    below = gallery.histogram.edges[1:] < 0
    assert not positive.get_data().values[below].any()
    assert negative.get_data().values[below].all()
    assert [to_hex(patch.get_facecolor()).upper() for patch in (positive, negative)] == list(PALETTE[:2])
    assert axes.get_xscale() == "asinh"
    assert axes.get_title().endswith("decades above the noise")


def test_bands_have_an_outline_each():
    image = RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    gallery = make(4, values=image, n_images=12)
    (axes,) = histograms_of(sample_grid([gallery]))
    assert [patch.get_label() for patch in axes.patches] == ["band 0", "band 1", "band 2"]
    assert axes.get_xscale() == "linear"


def test_pixels_that_are_not_finite_are_stated(find_collisions):
    figure = sample_grid([make(values=np.where(RADIO > 0.05, np.nan, RADIO))])
    (axes,) = histograms_of(figure)
    assert find_collisions(figure) == []
    assert "16 pixels are not finite" in axes.get_title().replace("\n", " ")


@pytest.mark.parametrize("n_classes", [1, 4, 6, 10])
def test_no_text_hides_another(find_collisions, n_classes):
    names = tuple(f"unbarred_spiral_galaxy_{n}" for n in range(n_classes))
    galleries = [make(n_classes, classes=names), make(), make(labels=np.full(12, UNLABELLED), scheme="")]
    figure = sample_grid(galleries)
    assert len(pictures_of(figure)) == 2 * n_classes + 1 + 13 + 13
    assert find_collisions(figure) == []


def test_no_gallery_is_refused():
    with pytest.raises(ProbeError, match="there are no images to draw"):
        sample_grid([])
