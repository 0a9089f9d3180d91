"""Stores, features and results as a notebook sees them, compared with the store, scikit-learn and brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from featurestore.errors import StoreError, UnknownNameError
from featurestore.samples import UNLABELLED
from featurestore.store import open_store as open_below
from studies import notebook

BACKBONE, VARIANT = "timm:test_vit", "resize=32"


class Silent:
    """A reporter that keeps what it was told."""

    def __init__(self):
        self.told = []

    def progress(self, label):
        return lambda done, total: self.told.append((label, done, total))

    def notice(self, text):
        self.told.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of images that differ in brightness, by folders; one of them is called like a tag of HTML."""
    root, rng = tmp_path_factory.mktemp("data") / "stars", np.random.default_rng(0)
    for name, level in (("<dark>", 60), ("bright", 180)):
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.normal(level, 20, (24, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def path(folder, tmp_path_factory):
    store, reporter = tmp_path_factory.mktemp("store") / "x.zarr", Silent()
    report = notebook.extract(folder, BACKBONE, VARIANT, store=store, weights="random:0", reporter=reporter)
    assert report.features[0].embedded == 24
    assert any(entry[1:] == (24, 24) for entry in reporter.told if isinstance(entry, tuple))
    return store


@pytest.fixture
def features(path, folder):
    return notebook.open_store(path).load(folder, BACKBONE, VARIANT)


def test_extracting_again_computes_nothing(path, folder):
    again = notebook.extract(str(folder), [BACKBONE], [VARIANT], store=str(path), weights="random:0", reporter=Silent())
    assert again.features[0].embedded == 0


def test_a_store_lists_what_it_holds(path):
    store = notebook.open_store(path)
    assert repr(store) == f"Store({str(path)!r}: 1 feature matrices)"
    assert store.frame()[["variant", "done"]].values.tolist() == [["resize=32", 24]]
    assert "resize=32" in store._repr_html_()


def test_a_mistyped_path_makes_no_store(tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        notebook.open_store(tmp_path / "typo.zarr")
    assert not (tmp_path / "typo.zarr").exists()


def test_features_are_those_of_the_store(features, path):
    below = open_below(str(path)).find()[0].read()
    np.testing.assert_array_equal(features.X, below.values)
    assert features.ids == tuple(below.table.sample_ids)
    assert features.X.dtype == np.float32
    assert len(features) == 24
    assert repr(features).endswith(f": 24 x {features.X.shape[1]})")


def test_labels_are_class_names_and_nothing_for_no_label(features):
    names = [sample.split("/")[0] for sample in features.ids]
    assert features.y().tolist() == names
    assert features.y(features.schemes[0]).tolist() == names
    table = replace(features.matrix.table, labels={features.schemes[0]: np.full(24, UNLABELLED)})
    assert replace(features, matrix=replace(features.matrix, table=table)).y().tolist() == [""] * 24
    with pytest.raises(UnknownNameError, match="kind"):
        features.y("kind")


def test_parts_of_the_split_are_those_of_the_probes(features, path, folder):
    train, test = features.split("train"), features.split("test")
    assert not set(train.ids) & set(test.ids)
    assert len(train) + len(test) == 24
    result = notebook.probe(
        folder, BACKBONE, VARIANT, heads="centroid", fractions=[100], seeds=1, store=path, reporter=Silent()
    )
    assert set(result.predictions()["sample_id"]) == set(test.ids)
    with pytest.raises(UnknownNameError, match="part of a split"):
        features.split("training")


def test_rows_are_taken_by_mask_and_by_number(features):
    mask = features.y() == "bright"
    assert features.take(mask).ids == features.take(np.flatnonzero(mask)).ids
    np.testing.assert_array_equal(features.take(mask).X, features.X[mask])


def test_neighbours_are_those_of_scikit_learn(features):
    distances, rows = NearestNeighbors(n_neighbors=6, algorithm="brute").fit(features.X).kneighbors(features.X[:1])
    found = features.neighbours(features.ids[0], k=5)
    assert found["sample_id"].tolist() == [features.ids[row] for row in rows[0, 1:]]
    np.testing.assert_allclose(found["distance"], distances[0, 1:], rtol=1e-4)
    assert len(features.neighbours(features.ids[0], k=100)) == 23
    with pytest.raises(UnknownNameError, match="sample"):
        features.neighbours("nobody")


def test_the_map_is_kept_in_the_store(features):
    first, again = features.umap(n_neighbors=5), features.umap(n_neighbors=5)
    assert first["sample_id"].tolist() == list(features.ids)
    np.testing.assert_array_equal(first[["x", "y"]], again[["x", "y"]])
    assert len(features.store.list_cached("projection")) == 1


def test_results_are_tables(path, folder):
    result = notebook.probe(
        folder, [BACKBONE], VARIANT, heads=["centroid", "knn"], fractions=[50, 100], seeds=2, store=path,
        reporter=Silent(),
    )  # fmt: skip
    assert len(result.runs) == 8
    best = result.summary()["mean"].max()
    assert repr(result).startswith(f"ProbeResult(8 runs; best macro-F1 {best:.3f}: ")
    assert set(result.frame()["head"]) == {"centroid", "knn"}
    assert "macro-F1" in result._repr_html_()


def test_names_are_escaped_in_html(features):
    shown = features._repr_html_()
    assert "<dark>" not in shown
    assert "&lt;dark&gt;" in shown
