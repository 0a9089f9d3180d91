"""Projections against scikit-learn and plain umap-learn; all UMAP runs share one process and few fits."""

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from featurestore.errors import ProbeError, UsageError
from featurestore.samples import UNLABELLED
from probes import projection
from probes.projection import balanced_sample, cached_projection, principal_components, project

LABELS = np.repeat(np.arange(4), 60)


@pytest.fixture(scope="module")
def clusters():
    """240 points of 4 noisy classes on a curved sheet in 64 dimensions, with a large mean."""
    rng = np.random.default_rng(3)
    latent = rng.normal(size=(4, 12))[LABELS] * 2 + rng.normal(size=(240, 12))
    return (np.tanh(latent @ rng.normal(size=(12, 64)) / 4) + 50).astype(np.float32)


@pytest.fixture
def with_values(make_features):
    def make(values, **options):
        values = np.asarray(values, dtype=np.float32)
        return replace(make_features(np.zeros(len(values), dtype=np.int64), **options), values=values)

    return make


# --- principal components ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(240, 64), (40, 64)])
def test_principal_components_equal_an_exact_decomposition(clusters, shape):
    values = clusters[::6][: shape[0]] if shape[0] == 40 else clusters
    scores, explained = principal_components(values, 10)
    exact = PCA(10, svd_solver="full").fit(values.astype(np.float64))
    expected = exact.transform(values.astype(np.float64))
    signs = np.sign((scores * expected).sum(axis=0))
    np.testing.assert_allclose(scores * signs, expected, atol=2e-3 * expected.std())
    np.testing.assert_allclose(explained, exact.explained_variance_ratio_, rtol=1e-4)
    assert scores.dtype == np.float32


@pytest.mark.parametrize("scale", [1e-30, 1e18, 1e30])
def test_components_of_features_of_any_size_are_those_of_ordinary_ones(clusters, scale):
    values = clusters * np.float32(scale)
    scores, explained = principal_components(values, 3)
    expected, shares = principal_components(clusters, 3)
    np.testing.assert_allclose(scores / scale, expected, atol=1e-3 * expected.std())
    np.testing.assert_allclose(explained, shares, rtol=1e-3)


def test_large_features_have_a_finite_projection_and_still_larger_ones_are_refused(with_values, clusters):
    found = project(with_values(clusters[:40] * np.float32(1e30)))
    assert np.isfinite(found.xy).all()
    with pytest.raises(ProbeError, match=r"feature values of 5\..e\+37: sums of them do not fit into float32"):
        project(with_values(clusters[:40] * np.float32(1e36)))


def test_the_sign_of_a_component_is_that_of_its_largest_loading(clusters):
    scores, _ = principal_components(clusters, 10)
    loadings = (clusters - clusters.mean(axis=0)).T @ scores
    assert (loadings[np.abs(loadings).argmax(axis=0), np.arange(10)] > 0).all()


@pytest.mark.parametrize(("n", "d", "k"), [(1, 5, 0), (3, 5, 2), (50, 3, 3), (50, 40, 10)])
def test_there_are_no_more_components_than_the_data_span(n, d, k):
    values = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    scores, explained = principal_components(values, 10)
    assert scores.shape == (n, k)
    assert explained.shape == (k,)


# --- the projection ---------------------------------------------------------------------------------------------


def test_projection_keeps_neighbours_as_well_as_plain_umap(clusters, with_values):
    made = project(with_values(clusters))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap import UMAP

        plain = UMAP(random_state=0).fit_transform(made.pca)
    kept = trustworthiness(made.pca, made.xy, n_neighbors=15)
    assert kept > trustworthiness(made.pca, plain, n_neighbors=15) - 0.01
    assert kept > trustworthiness(made.pca, made.pca[:, :2], n_neighbors=15)
    assert made.xy.shape == (240, 2)
    assert made.xy.dtype == np.float32


def test_projection_repeats_and_depends_on_the_seed(clusters, with_values):
    features = with_values(clusters[::4])
    first, again, other = project(features), project(features), project(features, seed=1)
    assert np.array_equal(first.xy, again.xy)
    assert not np.array_equal(first.xy, other.xy)
    assert np.array_equal(first.pca, other.pca)


def test_projection_states_its_parameters(with_values):
    parameters = project(with_values(np.eye(3)), n_components=7, n_neighbors=9, min_dist=0.3, seed=5).parameters
    expected = {"n_components": 7, "n_neighbors": 9, "min_dist": 0.3, "seed": 5, "init": "pca"}
    assert expected.items() <= parameters.items()
    assert {"numpy", "umap-learn"} <= parameters.keys()


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=(4, 6)),  # fewest rows for UMAP
        np.random.default_rng(0).normal(size=(12, 6)),  # fewer rows than neighbours
        np.random.default_rng(0).normal(size=(40, 1)),  # one feature
        np.repeat(np.random.default_rng(0).normal(size=(2, 6)), 20, axis=0),  # two points, many times
    ],
    ids=["four", "twelve", "one-feature", "duplicates"],
)
def test_small_and_degenerate_sets_are_projected(with_values, values):
    made = project(with_values(values))
    assert made.xy.shape == (len(values), 2)
    assert np.isfinite(made.xy).all()
    assert np.ptp(made.xy, axis=0).min() > 0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_than_four_rows_are_shown_by_their_components(with_values, n):
    values = np.random.default_rng(0).normal(size=(n, 6))
    made = project(with_values(values))
    expected = np.pad(made.pca, ((0, 0), (0, 2)))[:, :2]
    np.testing.assert_array_equal(made.xy, expected)
    distances = np.linalg.norm(values[:, None] - values[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(made.xy[:, None] - made.xy[None], axis=-1), distances, atol=1e-5)


def test_constant_features_are_one_point(with_values):
    made = project(with_values(np.full((30, 8), 0.1)))
    assert not made.xy.any()
    assert not made.explained.any()


def test_bad_input_is_refused(with_values):
    with pytest.raises(ProbeError, match="there are no features"):
        project(with_values(np.zeros((0, 4))))
    with pytest.raises(ProbeError, match="1 feature rows are not finite"):
        project(with_values([[0.0, 1.0], [np.nan, np.inf]]))


@pytest.mark.parametrize("options", [{"n_components": 0}, {"n_neighbors": 1}, {"min_dist": 1.5}, {"min_dist": -0.1}])
def test_parameters_out_of_range_are_refused(with_values, options):
    with pytest.raises(UsageError, match="out of its range"):
        project(with_values(np.eye(5)), **options)


# --- the cache --------------------------------------------------------------------------------------------------


def test_a_stored_projection_is_not_made_again(with_values, dict_store, monkeypatch):
    features = with_values(np.random.default_rng(0).normal(size=(3, 6)))
    made = cached_projection(dict_store, features)
    monkeypatch.setattr(projection, "principal_components", None)
    stored = cached_projection(dict_store, features)
    for name in ("xy", "pca", "explained"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(made, name))
    assert stored.parameters == made.parameters
    assert dict_store.puts == 1


def test_whatever_changes_a_projection_makes_a_new_one(with_values, make_key, dict_store, monkeypatch):
    values = np.random.default_rng(0).normal(size=(3, 6))
    cached_projection(dict_store, with_values(values))
    cached_projection(dict_store, with_values(values + 1e-3))
    cached_projection(dict_store, with_values(values), min_dist=0.2)
    cached_projection(dict_store, with_values(values), seed=1)
    cached_projection(dict_store, with_values(values, key=make_key(revision="other")))
    cached_projection(dict_store, with_values(values, pooling="avg_patch"))
    monkeypatch.setattr("featurestore.versions.version", lambda library: "0")
    cached_projection(dict_store, with_values(values))
    assert dict_store.puts == len(dict_store.entries) == 7


def test_default_options_and_the_same_options_spelled_out_are_one_entry(with_values, dict_store):
    features = with_values(np.eye(3))
    cached_projection(dict_store, features)
    cached_projection(dict_store, features, n_components=10, n_neighbors=15, min_dist=0.1, seed=0)
    assert dict_store.puts == 1


def test_importing_loads_neither_umap_nor_scikit_learn():
    code = "import sys, probes.projection; assert not {'umap', 'numba', 'sklearn', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the sample to display --------------------------------------------------------------------------------------


@given(st.lists(st.integers(UNLABELLED, 4), max_size=60), st.integers(0, 5), st.integers(1, 9))
def test_a_balanced_sample_shows_every_class_equally_often(labels, seed, most):
    labels = np.array(labels, dtype=np.int64)
    rows = balanced_sample(labels, seed, most=most)
    classes, counts = np.unique(labels[labels != UNLABELLED], return_counts=True)
    size = min([*counts, most]) if len(classes) else min(len(labels), most)
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(np.unique(labels[rows][labels[rows] != UNLABELLED]), classes)
    assert all((labels[rows] == c).sum() == size for c in classes)
    assert (labels[rows] == UNLABELLED).sum() == min((labels == UNLABELLED).sum(), size)
    assert np.array_equal(rows, balanced_sample(labels, seed, most=most))


def test_a_balanced_set_is_shown_whole_and_the_sample_follows_the_seed():
    assert len(balanced_sample(LABELS)) == 240
    uneven = LABELS[:200]
    assert not np.array_equal(balanced_sample(uneven, 0), balanced_sample(uneven, 1))


@pytest.mark.parametrize("accelerated", [False, True])
def test_cuml_gets_the_start_as_an_array(clusters, with_values, monkeypatch, accelerated):
    """It does not know the word pca, and umap would run on the CPU instead."""
    given = {}

    class Recording:
        def __init__(self, **options):
            given.update(options)

        def fit_transform(self, points):
            given["points"] = points
            return points[:, :2]

    monkeypatch.setattr("umap.UMAP", Recording)
    monkeypatch.setattr(projection, "is_accelerated", lambda: accelerated)
    project(with_values(clusters))
    if accelerated:
        np.testing.assert_array_equal(given["init"], given["points"][:, :2])
    else:
        assert given["init"] == "pca"
