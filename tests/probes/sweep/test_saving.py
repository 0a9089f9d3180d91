import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss

from featurestore.errors import CorruptStoreError, ProbeError, UnknownNameError, UsageError
from featurestore.store import open_store
from probes.heads.saved import list_heads, load_head
from probes.sweep.saving import predict, save_head
from probes.sweep.sweep import sweep

CLASSES = ["p_c_0", "p_c_1", "p_c_2"]


def fitted_rows(head):
    """Row numbers of every fit so far."""
    return [set(X[:, 0].astype(int)) for X in head.seen_]


def test_every_row_gets_calibrated_probabilities(fake_heads, toy_features, dict_store):
    frame = predict(save_head(dict_store, toy_features, "centroids"), toy_features)
    assert list(frame.columns) == ["sample_id", "split", "part", "predicted", *CLASSES, "reason"]
    assert tuple(frame["sample_id"]) == toy_features.table.sample_ids
    assert frame["split"].tolist() == toy_features.table.splits.tolist()
    assert frame["part"].tolist() == [""] * 12 + toy_features.table.splits.tolist()[12:], (
        "a row without a label has none"
    )
    assert frame[CLASSES].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert frame["predicted"].tolist() == [name[2:] for name in frame[CLASSES].idxmax(axis=1)]
    assert frame["reason"].isna().all()


def test_predictions_agree_with_the_run_of_the_sweep(fake_heads, toy_features, dict_store):
    run = sweep(toy_features, ["centroids"], fractions=[30], seeds=[2])[0]
    frame = predict(save_head(dict_store, toy_features, "centroids", fraction=30, seed=2), toy_features)
    test_rows = frame[frame["split"] == "test"]
    assert test_rows["predicted"].tolist() == [run.classes[label] for label in run.predicted]


def test_unreadable_rows_are_there_with_a_reason_and_no_probability(fake_heads, toy_features, dict_store):
    saved = save_head(dict_store, toy_features, "centroids")
    frame = predict(saved, replace(toy_features, unreadable={"broken": "truncated file", "tiny": "1x1 image"}))
    assert len(frame) == 242
    assert frame["sample_id"].tolist()[-2:] == ["broken", "tiny"]
    assert frame["reason"].tolist()[-2:] == ["truncated file", "1x1 image"]
    assert frame[CLASSES].tail(2).isna().to_numpy().all()
    assert frame["predicted"].tail(2).isna().all()
    assert (frame[CLASSES].dtypes == np.float32).all()


def test_the_temperature_lowers_the_loss_on_the_valid_rows(fake_heads, toy_features, dict_store):
    saved = save_head(dict_store, toy_features, "centroids", options={"centroids": {"scale": 30.0}})
    valid = slice(160, 200)
    truth = toy_features.table.labels["kind"][valid]
    raw = fake_heads["centroids"].from_arrays(saved.arrays).predict_proba(toy_features.values[valid])
    calibrated = predict(saved, toy_features)[CLASSES].to_numpy(dtype=np.float64)[valid]
    calibrated /= calibrated.sum(axis=1, keepdims=True)
    assert saved.temperature > 1
    assert saved.calibration == "valid"
    assert log_loss(truth, calibrated) < log_loss(truth, raw) - 0.1


@pytest.mark.parametrize("fraction", [50, 100])
def test_neither_fit_nor_calibration_looks_at_test_rows(fake_heads, make_features, dict_store, fraction):
    features = make_features(np.arange(150) % 3, splits=["train"] * 100 + ["test"] * 50)
    scrambled = replace(
        features,
        table=replace(features.table, labels={"kind": np.where(np.arange(150) < 100, np.arange(150) % 3, 0)}),
        values=np.where(np.arange(150)[:, None] < 100, features.values, 1e3).astype(np.float32),
    )
    first, second = (save_head(dict_store, f, "centroids", fraction=fraction) for f in (features, scrambled))
    assert first.digest != second.digest
    assert first.temperature == second.temperature
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)


def test_rows_outside_the_fraction_calibrate_without_a_valid_split(fake_heads, make_features, dict_store):
    features = make_features(np.arange(150) % 3, splits=["train"] * 100 + ["test"] * 50)
    saved = save_head(dict_store, features, "centroids", fraction=50)
    assert (saved.calibration, saved.n_train) == ("rest", 51)
    assert len(fake_heads["centroids"].seen_) == 1


def test_rows_that_the_head_chose_by_do_not_calibrate_it(fake_heads, toy_features, make_features, dict_store):
    assert save_head(dict_store, toy_features, "stopping").calibration == "valid"
    by_split = save_head(dict_store, toy_features, "stopping", validation="split", fraction=50)
    assert by_split.calibration == "rest"
    assert save_head(dict_store, toy_features, "stopping", validation="split").calibration == "folds"
    features = make_features(np.arange(150) % 3, splits=["train"] * 100 + ["test"] * 50)
    assert save_head(dict_store, features, "stopping", validation="rest", fraction=50).calibration == "folds"


def test_heads_of_the_folds_choose_by_the_same_validation_rows(fake_heads, toy_features, dict_store):
    save_head(dict_store, toy_features, "stopping", validation="split")
    first, *folds = fake_heads["stopping"].stopped_on_
    assert len(folds) == 5
    assert all(np.array_equal(first, rows) for rows in folds)


def test_cross_validation_inside_the_training_rows_calibrates_else(fake_heads, make_features, dict_store):
    features = make_features(np.arange(150) % 3, splits=["train"] * 100 + ["test"] * 50)
    saved = save_head(dict_store, features, "centroids", options={"centroids": {"scale": 30.0}})
    full, *folds = fitted_rows(fake_heads["centroids"])
    assert saved.calibration == "folds"
    assert saved.temperature > 1
    assert full == set(range(100))
    held_out = [full - inside for inside in folds]
    assert len(folds) == 5
    assert sorted(row for part in held_out for row in part) == list(range(100))
    assert all(18 <= len(part) <= 22 for part in held_out)


def test_folds_keep_groups_whole(fake_heads, make_features, dict_store):
    groups = [f"g{row // 4}" for row in range(120)]
    features = make_features(np.arange(120) // 4 % 2, groups=groups, splits=["train"] * 80 + ["test"] * 40)
    save_head(dict_store, features, "centroids")
    full, *folds = fitted_rows(fake_heads["centroids"])
    for inside in folds:
        assert not {groups[row] for row in inside} & {groups[row] for row in full - inside}


def test_a_class_with_a_single_row_is_never_held_out(fake_heads, make_features, dict_store):
    features = make_features([0, 1] * 20 + [2] + [0, 1, 2], splits=["train"] * 41 + ["test"] * 3)
    saved = save_head(dict_store, features, "centroids")
    assert saved.calibration == "folds"
    assert all(40 in inside for inside in fitted_rows(fake_heads["centroids"]))


def test_without_rows_to_calibrate_on_the_head_says_so(fake_heads, make_features, dict_store):
    features = make_features([0, 1, 0, 1], splits=["train", "train", "test", "test"])
    saved = save_head(dict_store, features, "centroids")
    assert (saved.calibration, saved.temperature) == ("none", 1.0)


def test_a_class_absent_from_train_gets_probability_0(fake_heads, make_features, dict_store):
    features = make_features([0, 1] * 20 + [2, 0, 1], splits=["train"] * 40 + ["valid"] + ["test"] * 2)
    frame = predict(save_head(dict_store, features, "centroids"), features)
    assert (frame["p_c_2"] == 0).all()


def test_a_head_is_stored_as_arrays_and_json_and_read_back_equal(fake_heads, toy_features, dict_store):
    saved = save_head(dict_store, toy_features, "centroids", fraction=50, seed=1)
    entry = dict_store.get_cached("heads", saved.digest)
    assert all(array.dtype != object for array in entry.arrays.values())
    assert json.loads(json.dumps(entry.attributes, allow_nan=False)) == entry.attributes
    loaded = load_head(dict_store, saved.short)
    assert predict(loaded, toy_features).equals(predict(saved, toy_features))
    assert (loaded.head, loaded.fraction, loaded.seed, loaded.key) == ("centroids", 50, 1, toy_features.key)


def test_saving_again_fits_nothing(fake_heads, toy_features, dict_store):
    first = save_head(dict_store, toy_features, "centroids")
    again = save_head(dict_store, toy_features, "centroids")
    assert first.digest == again.digest
    assert len(fake_heads["centroids"].seen_) == dict_store.puts == 1


def test_saved_heads_are_listed_and_chosen_by_the_beginning_of_their_name(fake_heads, toy_features, dict_store):
    saved = [save_head(dict_store, toy_features, name) for name in ("centroids", "stopping")]
    assert {head.digest for head in list_heads(dict_store)} == {head.digest for head in saved}
    assert load_head(dict_store, saved[0].digest[:10]).head == "centroids"
    with pytest.raises(UsageError, match=r"2 saved heads begin with ''.*Choose one of"):
        load_head(dict_store, "")
    with pytest.raises(UnknownNameError, match=f"no saved head 'xyz'.*{saved[0].short}"):
        load_head(dict_store, "xyz")


def test_an_empty_store_lists_no_head(dict_store):
    assert list_heads(dict_store) == []
    with pytest.raises(UnknownNameError, match="Saved heads: none"):
        load_head(dict_store, "abc")


def test_a_damaged_head_is_not_listed_and_an_error_when_asked_for(fake_heads, toy_features, dict_store, monkeypatch):
    saved = save_head(dict_store, toy_features, "centroids")
    monkeypatch.setitem(dict_store.entries, ("heads", saved.digest), None)
    assert list_heads(dict_store) == []
    with pytest.raises(CorruptStoreError, match="Save the head again"):
        load_head(dict_store, saved.digest)


def test_a_head_survives_the_real_store(fake_heads, toy_features, tmp_path):
    saved = save_head(open_store(str(tmp_path / "s.zarr"), mode="a"), toy_features, "centroids")
    loaded = load_head(open_store(str(tmp_path / "s.zarr")), saved.short)
    assert predict(loaded, toy_features).equals(predict(saved, toy_features))
    assert [head.digest for head in list_heads(open_store(str(tmp_path / "s.zarr")))] == [saved.digest]


@pytest.mark.parametrize("name", ["linear", "whitened", "mlp", "knn"])
def test_built_in_heads_predict_from_the_store_what_the_sweep_predicted(toy_features, tmp_path, name):
    run = sweep(toy_features, [name], fractions=[50], seeds=[1])[0]
    store = open_store(str(tmp_path / "s.zarr"), mode="a")
    frame = predict(save_head(store, toy_features, name, fraction=50, seed=1), toy_features)
    test_rows = frame[frame["split"] == "test"]
    assert test_rows["predicted"].tolist() == [run.classes[label] for label in run.predicted]


def test_features_of_another_key_are_refused_with_the_fields_that_differ(
    fake_heads, toy_features, dict_store, make_key
):
    saved = save_head(dict_store, toy_features, "centroids")
    other = make_key(precision="bf16", preprocessing={"resize": 480, "crop": "none"})
    with pytest.raises(ProbeError, match=r"precision 'fp32', not 'bf16'; preprocessing.resize 224, not 480"):
        predict(saved, replace(toy_features, key=other))
    with pytest.raises(ProbeError, match="pooling 'cls', not 'avg_patch'"):
        predict(saved, replace(toy_features, pooling="avg_patch"))


def test_another_dataset_of_the_same_key_is_welcome(fake_heads, toy_features, make_features, dict_store):
    saved = save_head(dict_store, toy_features, "centroids")
    new = make_features([-1] * 5, ids=[f"new{row}" for row in range(5)])
    frame = predict(saved, new)
    assert frame["sample_id"].tolist() == [f"new{row}" for row in range(5)]
    assert frame[CLASSES].notna().to_numpy().all()
