"""Saved heads: what is written is read, and heads that an earlier version wrote go on predicting."""

import numpy as np

from probes.heads.knn import KNNProbe
from probes.heads.saved import KIND, SavedHead, list_heads, load_head, predict_calibrated, store_head


def make_saved(features, head, **more):
    facts = {
        "digest": "ab" * 32, "head": "knn", "protocol": "cv", "scheme": "kind", "fraction": 100, "seed": 0,
        "dataset": "toy", "variant": "full-224", "backbone": "net_b", "pooling": features.pooling, "key": features.key,
        "classes": features.table.classes["kind"], "n_train": 160, "temperature": 1.5, "calibration": "rest",
        "params": head.chosen_, "arrays": head.to_arrays(),
    }  # fmt: skip
    return SavedHead(**facts | more)


def test_a_stored_head_is_read_as_it_was(toy_features, dict_store):
    labels = toy_features.table.labels["kind"]
    known = labels >= 0
    saved = make_saved(toy_features, KNNProbe().fit(toy_features.values[known], labels[known]))
    store_head(dict_store, saved)
    (found,) = list_heads(dict_store)
    assert found == load_head(dict_store, "ab") == saved
    expected = predict_calibrated(saved, toy_features)
    np.testing.assert_array_equal(predict_calibrated(found, toy_features), expected)


def test_a_head_of_an_earlier_version_predicts_what_it_predicted(toy_features, dict_store):
    labels = toy_features.table.labels["kind"]
    known = labels >= 0
    head = KNNProbe().fit(toy_features.values[known], labels[known])
    saved = make_saved(toy_features, head, protocol="convex", params={"strength": 0.1})
    store_head(dict_store, saved)
    entry = dict_store.entries[KIND, saved.digest]
    entry.arrays["columns_"] = entry.arrays.pop("targets_")
    found = load_head(dict_store, saved.digest)
    assert (found.protocol, dict(found.params)) == ("convex", {"C": 0.1})
    expected = predict_calibrated(make_saved(toy_features, head), toy_features)
    np.testing.assert_array_equal(predict_calibrated(found, toy_features), expected)
