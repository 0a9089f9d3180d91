"""The diagnostics as a whole: all tables, their rows, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from featurestore.errors import ProbeError
from probes.diagnostics.diagnose import diagnose_features, name_matrices
from probes.diagnostics.findings import DiagnosticsOptions

SPLITS = ["train"] * 80 + ["test"] * 40


@pytest.fixture
def matrices(features_of):
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    values = rng.normal(size=(120, 6)) + 3 * np.eye(3, 6)[labels]
    values[100] = values[3]
    return [
        features_of(values, labels, splits=SPLITS),
        features_of(values @ rng.normal(size=(6, 9)), labels, backbone="net_c", splits=SPLITS),
    ]


def test_every_measure_of_every_matrix(matrices):
    found = diagnose_features(matrices)
    wide = found.measures.pivot_table(index="backbone", columns="measure", values="value")
    assert list(wide.index) == ["net_b", "net_c"]
    assert wide["width"].tolist() == [6, 9]
    assert (wide["equal images"] == 1).all()
    assert (wide["leaks"] >= 1).all()
    assert (wide["effective rank"] <= 6.01).all()
    assert len(found.alignments) == 1
    assert set(found.flagged["reason"]) >= {"leak", "equal", "outlier"}
    leak = found.flagged[(found.flagged["reason"] == "leak") & (found.flagged["backbone"] == "net_b")].iloc[0]
    assert (leak["sample_id"], leak["other_id"]) == ("s100", "s003")


def test_diagnostics_want_one_dataset_with_rows(matrices, features_of):
    with pytest.raises(ProbeError, match="there are no features to diagnose"):
        diagnose_features([])
    with pytest.raises(ProbeError, match="2 images are too few to diagnose"):
        diagnose_features([features_of(np.ones((2, 3)))])


def test_matrices_are_named_by_what_tells_them_apart():
    one = {"backbone": "a", "variant": "v", "pooling": "cls", "key": "1"}
    assert name_matrices([one, one | {"backbone": "b"}]) == ["a", "b"]
    assert name_matrices([one, one | {"variant": "w"}]) == ["a, v", "a, w"]


def measure(found, backbone="net_b"):
    own = found.measures[found.measures["backbone"] == backbone]
    return own.set_index("measure")["value"]


def test_where_the_features_lie_does_not_matter(features_of):
    """A constant that all images share is not structure: every measure is of centred features."""
    values = np.random.default_rng(1).normal(size=(120, 6))
    near, far = (diagnose_features([features_of(values + shift, splits=SPLITS)]) for shift in (0, 50))
    assert measure(far).to_dict() == pytest.approx(measure(near).to_dict(), rel=1e-3)
    outliers = [one.flagged[one.flagged["reason"] == "outlier"]["sample_id"].tolist() for one in (near, far)]
    assert outliers[0] == outliers[1]


def test_separability_sees_training_rows_alone(features_of):
    rng = np.random.default_rng(2)
    labels = np.arange(120) % 3
    values = rng.normal(size=(120, 6)) + 3 * np.eye(3, 6)[labels]
    other = np.where(np.arange(120) < 80, labels, rng.permutation(labels))
    one, two = (measure(diagnose_features([features_of(values, given, splits=SPLITS)])) for given in (labels, other))
    names = ["Fisher ratio", "silhouette", "purity", "purity by chance"]
    assert one[names].tolist() == two[names].tolist()
    of = diagnose_features([features_of(values, labels, splits=SPLITS)]).measures.set_index("measure")
    assert of.loc[names, "rows"].tolist() == [80] * 4
    centred = values.astype(np.float32) - values.astype(np.float32).mean(axis=0)
    assert one["silhouette"] == pytest.approx(silhouette_score(centred[:80], labels[:80]), rel=1e-4)


def test_each_measure_is_of_the_rows_that_it_names(features_of):
    found = diagnose_features([features_of(np.random.default_rng(3).normal(size=(120, 6)), splits=SPLITS)],
                              options=DiagnosticsOptions(rows=50, outliers=3))  # fmt: skip
    rows = found.measures.groupby("of")["rows"].unique()
    assert rows["sample"].tolist() == [50]
    assert rows["all"].tolist() == [120]
    assert (found.flagged["reason"] == "outlier").sum() == 3
    shares = found.spectra["share"]
    assert shares.sum() == pytest.approx(1)
    assert shares.is_monotonic_decreasing
    assert found.spectra["component"].tolist() == list(range(1, len(shares) + 1))


def test_the_split_is_told_as_the_probes_draw_it(features_of):
    values, labels = np.random.default_rng(4).normal(size=(100, 5)), np.arange(100) % 2
    drawn = diagnose_features([features_of(values, labels)])
    assert drawn.split.startswith("split drawn (20% of the labelled rows are test rows, stratified, seed 0): 80 train")
    bare = features_of(values, labels)
    bare = diagnose_features([replace(bare, table=replace(bare.table, labels={}, classes={}))])
    assert (bare.scheme, bare.split) == (None, "the dataset has no labels, and its own splits are used")
