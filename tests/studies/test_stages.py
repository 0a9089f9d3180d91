"""The stages of a study on a small store of made-up features; images and models are tested in test_cli.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from featurestore.errors import (
    AmbiguousFeaturesError,
    DatasetError,
    MissingFeaturesError,
    ProbeError,
    StoreWriteError,
    UnknownNameError,
)
from featurestore.store import open_store
from featurestore.store.features import FeatureSet
from featurestore.store.stored_features import StoredFeatures
from studies import stages
from studies.study_file.spec import ProbeOptions, Study


def test_probing_writes_tables_and_lists_unreadable_images(study, store, reporter, tmp_path):
    result = stages.probe_study(study, store, tmp_path / "out", reporter)
    assert result.unreadable == {"s005": "cut off"}
    assert all(path.is_file() for path in result.files.values())
    frame = pd.read_csv(result.files["results.csv"])
    assert len(frame[["fraction", "seed"]].drop_duplicates()) == 4
    assert len(result.tables) == 1 and "centroids" in result.tables[0]
    assert reporter.steps["probe"] == [(done, 4) for done in (1, 2, 3, 4)]
    assert list(result.seconds) == ["probe"]


def test_without_a_folder_nothing_is_written(study, store, reporter, tmp_path):
    before = set(tmp_path.iterdir())
    assert stages.probe_study(study, store, None, reporter).files == {}
    assert set(tmp_path.iterdir()) == before


def test_a_second_run_fits_nothing_and_says_the_same(study, store, reporter, fake_heads, tmp_path):
    seen = fake_heads["centroids"].seen_
    first = stages.probe_study(study, store, tmp_path / "one", reporter)
    assert len(seen) == 4
    second = stages.probe_study(study, store, tmp_path / "two", reporter)
    assert len(seen) == 4
    assert second.tables == first.tables
    assert (tmp_path / "one/results.csv").read_bytes() == (tmp_path / "two/results.csv").read_bytes()


def test_saved_heads_predict_every_row(study, store, reporter):
    (name,) = stages.probe_study(study, store, None, reporter, save=True).heads
    (row,) = stages.list_head_rows(store)
    assert (row["short"], row["head"], row["dataset"], row["fraction"]) == (name, "centroids", "toy", 100)
    frame = stages.predict_rows("toy", name, store, reporter)
    assert len(frame) == 90
    assert frame.set_index("sample_id")["reason"].dropna().to_dict() == {"s005": "cut off"}
    with pytest.raises(UnknownNameError, match="no saved head 'nope'"):
        stages.predict_rows("toy", "nope", store, reporter)


def test_features_without_room_stay_in_the_store_and_are_probed_there(store, reporter, tmp_path):
    study = Study(("toy",), ("net_b",), probe=ProbeOptions(heads=("linear",), fractions=(100,), seeds=2))
    room = 8 * 89 * 4 * np.dtype(np.float32).itemsize
    (whole,) = stages.open_features(study, store, reporter, lambda: room)
    (stored,) = stages.open_features(study, store, reporter, lambda: room - 1)
    assert isinstance(whole, FeatureSet)
    assert isinstance(stored, StoredFeatures)
    result = stages.probe_study(study, store, tmp_path, reporter, available=lambda: room - 1)
    assert result.unreadable == {"s005": "cut off"}
    runs = stages.probe(study, [stored], store, reporter)
    assert all("streamed" in run.params and run.scores.macro["f1"] > 0.8 for run in runs)
    assert result.tables == (stages.format_table(stages.summarise(runs)),)


def test_heads_that_need_all_rows_or_are_saved_are_refused_where_there_is_no_room(study, store, reporter):
    with pytest.raises(ProbeError, match="'centroids' needs all 89 x 4 features in memory"):
        stages.probe_study(study, store, None, reporter, available=lambda: 0)
    with pytest.raises(ProbeError, match="saving heads needs all 89 x 4 features in memory"):
        stages.probe_study(study, store, None, reporter, available=lambda: 0, save=True)


@pytest.fixture
def joint(study, store, put):
    """A study of two backbones side by side."""
    put(store, backbone="net_c", weights_hash="1" * 64)
    return replace(study, backbones=("net_b", "net_b+net_c"))


def test_backbones_side_by_side_are_probed_saved_and_predicted_with(joint, store, reporter):
    result = stages.probe_study(joint, store, None, reporter, save=True)
    assert "net_b+net_c" in result.tables[0]
    heads = {row["backbone"]: row["short"] for row in stages.list_head_rows(store)}
    assert len(stages.predict_rows("toy", heads["net_b+net_c"], store, reporter)) == 90


def test_backbones_side_by_side_are_extracted_each_once(joint, store, reporter, monkeypatch, fake_dataset):
    wanted = []
    monkeypatch.setattr(stages, "open_dataset", lambda _: fake_dataset(store.dataset("toy")))
    monkeypatch.setattr(stages, "extract_features", lambda _, backbones, *rest: wanted.append(backbones))
    stages.extract(joint, store, reporter)
    assert wanted == [("net_b", "net_c")]


def test_backbones_side_by_side_need_room_for_both(joint, store, reporter):
    room = 8 * 2 * 89 * 4 * np.dtype(np.float32).itemsize
    assert [features.shape[1] for features in stages.open_features(joint, store, reporter, lambda: room)] == [4, 8]
    with pytest.raises(ProbeError, match="a combination of backbones needs all 89 x 4 features in memory"):
        stages.open_features(joint, store, reporter, lambda: room - 1)


def test_projections_are_drawn_and_their_coordinates_written(study, store, reporter, tmp_path, projected):
    result = stages.project_study(study, store, tmp_path / "out", reporter)
    assert projected == ["net_b"]
    assert reporter.steps["project"] == [(1, 1)]
    assert all(path.is_file() for path in result.files.values())
    assert {path.suffix for path in result.files.values()} > {".parquet"}
    frame = pd.read_parquet(result.files["projections.parquet"])
    matrix = store.load("toy", "full-224", "net_b")
    assert frame["sample_id"].tolist() == list(matrix.table.sample_ids)
    np.testing.assert_array_equal(frame[["x", "y"]].to_numpy(), matrix.values[:, :2])
    assert set(frame["variant"]) == {"full-224"}


def test_every_backbone_at_every_variant_is_loaded(study, store, put, reporter):
    put(store, "center-224")
    both = replace(study, variants=("center-224", "full-224"))
    assert [matrix.variant for matrix in stages.load_features(both, store, reporter)] == ["center-224", "full-224"]
    with pytest.raises(MissingFeaturesError, match="skyprobe extract"):
        stages.load_features(replace(study, backbones=("other",)), store, reporter)


def test_precision_and_weights_choose_among_keys(study, store, put, reporter):
    put(store, precision="bf16")
    put(store, weights_hash="1" * 64, provenance={"weights": "random:0"})
    with pytest.raises(AmbiguousFeaturesError, match="3 stored features match"):
        stages.load_features(study, store, reporter)

    def keys(**options):
        return [
            m.key
            for m in stages.load_features(replace(study, extract=replace(study.extract, **options)), store, reporter)
        ]

    assert [key.precision for key in keys(precision="bf16")] == ["bf16"]
    assert [key.weights_hash for key in keys(weights="random:00")] == ["1" * 64]


def test_images_that_changed_since_they_were_embedded_are_told(study, store, reporter):
    table = store.dataset("toy")
    store.put_dataset(replace(table, fingerprints=table.fingerprints + (np.arange(90) < 7).astype(np.uint64)))
    stages.load_features(study, store, reporter)
    (notice,) = reporter.notices
    assert notice.startswith("toy: 6 images changed since net_b embedded them")  # one of seven was unreadable
    assert "run: skyprobe extract toy -b net_b" in notice


def test_an_audit_covers_all_features_of_the_dataset_and_needs_some(store, put, monkeypatch, fake_dataset):
    put(store, "center-224")
    monkeypatch.setattr(stages, "audit", lambda arrays, dataset, n_rows: [(arrays.variant, n_rows)])
    table = store.dataset("toy")
    monkeypatch.setattr(stages, "open_dataset", lambda text: fake_dataset(table))
    assert sorted(stages.audit_features(store, "x", 3)) == [("center-224", 3), ("full-224", 3)]
    table = replace(table, name="other")
    with pytest.raises(MissingFeaturesError, match="skyprobe extract"):
        stages.audit_features(store, "x", 3)


def test_a_mapping_file_relabels_without_extraction(study, store, reporter, mapping, tmp_path, relabelled):
    study = relabelled(study, mapping('c_0 = "one"\nc_1 = "two"'))
    result = stages.probe_study(study, store, tmp_path / "out", reporter, save=True)
    frame = pd.read_csv(result.files["results.csv"])
    assert set(frame["scheme"]) == {"bright"}
    assert set(frame["class"].dropna()) >= {"one", "two"}
    assert reporter.notices == [
        "toy, labels bright: unlabelled are the samples of kind c_2 (29).",
        "toy (bright): split given by the dataset: 40 train, 0 valid, 20 test",
    ]
    (head,) = stages.list_head_rows(store)
    assert head["scheme"] == "bright"
    assert "bright" not in store.dataset("toy").schemes


def test_runs_of_two_mappings_of_one_name_are_not_confused(study, store, reporter, mapping, fake_heads, relabelled):
    seen = fake_heads["centroids"].seen_
    stages.probe_study(relabelled(study, mapping('c_0 = "one"\nc_1 = "two"')), store, None, reporter)
    stages.probe_study(relabelled(study, mapping('c_0 = "one"\nc_2 = "two"')), store, None, reporter)
    assert len(seen) == 8
    stages.probe_study(relabelled(study, mapping('c_0 = "one"\nc_1 = "two"')), store, None, reporter)
    assert len(seen) == 8


def test_sky_groups_are_chosen_when_probing(study, store, reporter):
    with pytest.raises(DatasetError, match="no sample has a position on the sky"):
        stages.load_features(replace(study, datasets=("toy,groups=sky:30",)), store, reporter)
    place = np.stack([np.arange(90) // 2, np.zeros(90)], axis=1)
    store.put_dataset(replace(store.dataset("toy"), sky=place))
    (grouped,) = stages.load_features(replace(study, datasets=("toy,groups=sky:30",)), store, reporter)
    assert len(set(grouped.table.groups.tolist())) == 45


def test_a_store_that_cannot_be_written_can_be_probed_but_saves_no_head(study, store, reporter, tmp_path):
    reader = open_store(store.path, volatile=True)
    assert stages.probe_study(study, reader, tmp_path / "out", reporter).files
    assert open_store(store.path).list_cached("runs") == []
    with pytest.raises(StoreWriteError, match="no head can be saved"):
        stages.probe_study(study, reader, None, reporter, save=True)
