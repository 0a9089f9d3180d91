"""Figures of projections name their panels, and state how they were made."""

from dataclasses import replace

import numpy as np

from probes.projection import Projection
from studies.report.projections import latent_figure, projection_figures


def test_the_projection_figure_has_a_panel_for_each_feature_matrix(feature_sets, projections):
    (drawn,) = projection_figures(feature_sets, projections)
    assert [axes.get_title() for axes in drawn.figure.axes] == [
        "net_b, full-224\nall 60 images", "net_b, center-224\nall 60 images",
    ]  # fmt: skip
    assert "of the first 2 principal components, which explain 75% of the variance" in drawn.caption
    assert projection_figures(feature_sets, []) == []


def test_panels_that_only_the_key_tells_apart_show_it(feature_sets, projections, make_key):
    twins = [feature_sets[0], replace(feature_sets[0], key=make_key(precision="bf16"))]
    (drawn,) = projection_figures(twins, projections)
    titles = [axes.get_title() for axes in drawn.figure.axes]
    assert all(twin.key.short in title for twin, title in zip(twins, titles, strict=True))


def test_latent_spaces_have_a_row_for_each_dataset(make_features, make_key):
    variants = ("full-224", "center-224")
    features = [make_features(np.arange(60) % 3, variant=name, key=make_key(precision=name)) for name in variants]
    twin = make_features(np.arange(60) % 3, key=make_key(engine="openvino"))
    parameters = {"n_components": 2, "n_neighbors": 15, "min_dist": 0.1, "seed": 0}
    projections = [Projection(f.values[:, :2], f.values[:, :2], np.array([0.5, 0.25]), parameters) for f in features]
    drawn = latent_figure([*features, twin], [*projections, projections[0]])
    assert drawn.name == "figure-2-umap"
    titles = [axes.get_title().replace("\n", " ") for axes in drawn.figure.subfigs[0].axes]
    assert titles == ["net_b, full-224", "net_b, center-224", f"net_b, full-224, {twin.key.short}"]
    assert "of the first 2 principal components, which explain 75% of the variance" in drawn.caption
    assert "n_neighbors 15, min_dist 0.1, seed 0" in drawn.caption


def test_shares_that_differ_are_a_range(feature_sets, projections):
    less = replace(projections[0], explained=np.array([0.3, 0.1]))
    drawn = latent_figure(feature_sets, [projections[0], less])
    assert "which explain 40% to 75% of the variance" in drawn.caption
