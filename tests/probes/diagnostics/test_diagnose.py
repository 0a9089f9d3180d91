"""The look as a whole: all tables, their rows, and what it refuses."""

import numpy as np
import pytest

from featurestore.errors import ProbeError
from probes.diagnostics.diagnose import diagnose_features, name_matrices
from studies.report.diagnostics import captioned_figures, tables

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
    assert set(found.contacts["reason"]) >= {"leak", "equal", "outlier"}
    leak = found.contacts[(found.contacts["reason"] == "leak") & (found.contacts["backbone"] == "net_b")].iloc[0]
    assert (leak["sample_id"], leak["other_id"]) == ("s100", "s003")


def test_what_is_shown_states_images_and_measures(matrices):
    found = diagnose_features(matrices)
    captions = " ".join(table.caption for table in tables(found))
    assert "Effective rank and intrinsic dimension of the features of 120 images" in captions
    assert "debiased linear CKA over 120 common images" in captions
    drawn = captioned_figures(found, lambda _variant, _sample: np.zeros((8, 8, 3), np.uint8))
    assert [plate.name for plate in drawn] == [
        "toy-rank-spectrum", "toy-cka", "toy-contacts-net_b", "toy-contacts-net_c",
    ]  # fmt: skip


def test_a_look_wants_one_dataset_with_rows(matrices, features_of):
    with pytest.raises(ProbeError, match="there are no features to look at"):
        diagnose_features([])
    with pytest.raises(ProbeError, match="2 images are too few to look at"):
        diagnose_features([features_of(np.ones((2, 3)))])


def test_matrices_are_named_by_what_tells_them_apart():
    one = {"backbone": "a", "variant": "v", "pooling": "cls", "key": "1"}
    assert name_matrices([one, one | {"backbone": "b"}]) == ["a", "b"]
    assert name_matrices([one, one | {"variant": "w"}]) == ["a, v", "a, w"]
