"""A study as large as the paper's, and a look at where the letters of a figure are."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

BACKBONES = ("dinov2-b", "msn-b", "mae-b", "siglip-b", "radio-b", "resnet-50")
CLASSES = {
    "galaxy_mnist": ("smooth_round", "smooth_cigar", "edge_on_disk", "unbarred_spiral"),
    "rgz": ("1C-1P", "1C-2P", "1C-3P", "2C-2P", "2C-3P", "3C-3P"),
}


@pytest.fixture
def find_collisions():
    """``find_collisions(figure)``: texts that overlap another text or leave the figure."""

    def find(figure):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        boxes = {text: text.get_window_extent(renderer) for text in _visible_texts(figure)}
        lost = [
            text.get_text() for text, box in boxes.items()
            if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
        ]  # fmt: skip
        pairs = combinations(boxes.items(), 2)
        return lost + [(a.get_text(), b.get_text()) for (a, one), (b, two) in pairs if one.padded(-1).overlaps(two)]

    return find


def _visible_texts(figure):
    """All texts but the labels of ticks outside the limits, of which matplotlib keeps some in store."""
    axises = [axis for axes in figure.findobj(Axes) for axis in (axes.xaxis, axes.yaxis)]
    stored = {text for axis in axises for text in axis.findobj(Text) if text is not axis.label}
    texts = [text for text in dict.fromkeys(figure.findobj(Text)) if text not in stored]
    for axis in axises:
        low, high = sorted(axis.get_view_interval())
        ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False)
        texts += [label for place, label in ticks if low <= place <= high]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


@pytest.fixture
def make_study(make_grid):
    """``make_study(**fields)``: six backbones and a network from scratch on two datasets, two fractions and seeds."""

    def make(names=("galaxy_mnist", "rgz"), scheme="morphology", **fields):
        runs = []
        for name in names:
            given = {"dataset": name, "scheme": scheme, "classes": CLASSES[name], "seeds": 2} | fields
            truth = np.arange(120) % len(given["classes"])
            for backbone in BACKBONES:
                runs += make_grid(truth=truth, backbone=backbone, **given)
            given.pop("heads", None)
            trained = {"backbone": "resnet-50", "pooling": "avgpool", "protocol": "supervised", "key": "trained"}
            runs += make_grid(("finetune:scratch",), truth=truth, **given | trained)
        return runs

    return make
