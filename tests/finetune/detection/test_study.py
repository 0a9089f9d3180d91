from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
from astropy.table import Table

from featurestore.errors import (
    FinetuneError,
    ProbeError,
    SeenRowsError,
    UnknownNameError,
    UsageError,
)
from featurestore.store import open_store
from featurestore.training_rows import SEEN, pack_rows
from finetune.detection.data import prepare_data
from finetune.detection.detector import Architecture
from finetune.detection.results import summarise, to_frame
from finetune.detection.run_cache import cached_run, cached_runs, save_run
from finetune.detection.study import DetectionStudy, detect_study, make_detector
from finetune.detection.training import TrainingOptions
from finetune.options import TrainerOptions
from finetune.processes import Processes

SIDE = 64


class Quiet:
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.notices, self.labels = [], []

    def progress(self, label):
        self.labels.append(label)
        return lambda _done, _total: None

    def notice(self, text):
        self.notices.append(text)


def study(root, **changes):
    own = DetectionStudy(
        f"coco:{root}",
        ("timm:test_efficientnet",),
        variant=f"resize={SIDE}",
        weights="random:0",
        training=TrainingOptions(
            epochs=1, batch_size=4, learning_rate=0.01, architecture=Architecture(channels=16, hidden=32, regions=32)
        ),
    )
    return replace(own, **changes)


def prepare(root):
    return prepare_data(f"coco:{root}", f"resize={SIDE}", "all")


def test_a_study_from_images_to_catalogue(root, tmp_path):
    reporter = Quiet()
    result = detect_study(study(root, view="source", threshold=0.05), None, tmp_path, reporter)
    told = " ".join(reporter.notices)
    assert "1 boxes left their image and were clipped" in told
    assert "1 boxes are left out, since they lie outside of their image" in told
    assert reporter.labels == ["train timm-test_efficientnet-frozen-100-0"]
    assert all(path.exists() for path in result.files.values())
    folder = "timm-test_efficientnet-frozen-100-0"
    wanted = ["history.csv", "detections.json", "catalogue.fits", "catalogue.reg", "training.png", "contact_sheet.svg",
              "by_size.pdf", "by_flux.pdf"]  # fmt: skip
    assert {"results.csv", "results.parquet", "summary.csv", "truth.json", "iou_sweep.svg"} <= result.files.keys()
    assert {f"{folder}/{name}" for name in wanted} <= result.files.keys()
    assert "detect:frozen" in result.tables[0]

    frame = pd.read_csv(result.files["results.csv"])
    assert set(frame["class"]) == {"source", "macro", "all"}
    assert frame["n_train"].unique().tolist() == [6]
    truth = json.loads(result.files["truth.json"].read_text())
    results = json.loads(result.files[f"{folder}/detections.json"].read_text())
    assert [image["file_name"] for image in truth["images"]] == ["6.fits", "7.fits", "8.fits"]
    assert len(Table.read(result.files[f"{folder}/catalogue.fits"])) == len(results) > 0


def test_resuming_a_finished_study_changes_nothing(root, tmp_path):
    first = detect_study(study(root), None, tmp_path / "a", Quiet())
    detections = first.files["timm-test_efficientnet-frozen-100-0/detections.json"].read_bytes()
    again = detect_study(study(root, resume=True), None, tmp_path / "a", Quiet())
    assert again.files["timm-test_efficientnet-frozen-100-0/detections.json"].read_bytes() == detections


def test_what_was_trained_is_not_trained_again(root, tmp_path):
    store, first, second = open_store(str(tmp_path / "store.zarr"), mode="a"), Quiet(), Quiet()
    before = detect_study(study(root), store, tmp_path / "a", first)
    after = detect_study(study(root), store, tmp_path / "a", second)
    assert (len(first.labels), second.labels) == (1, [])
    assert after.tables == before.tables
    assert after.files.keys() == before.files.keys() | {"timm-test_efficientnet-frozen-100-0/last.pt"}
    detect_study(study(root, threshold=0.3), store, tmp_path / "a", second)
    (tmp_path / "a/timm-test_efficientnet-frozen-100-0/last.pt").unlink()
    detect_study(study(root, threshold=0.3), store, tmp_path / "a", second)
    assert len(second.labels) == 2, "other options, and a detector that is gone"


FOLDER = "timm-test_efficientnet-frozen-100-0"


def begin(monkeypatch, one, store, folder):
    """A study that is stopped after its first epoch, when the checkpoint is written."""

    def stop(_row):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("finetune.detection.study.make_logger", lambda *_: stop)
        with pytest.raises(KeyboardInterrupt):
            detect_study(one, store, folder, Quiet())


@pytest.mark.parametrize("changes", [{"weights": "random:1"}, {"view": "source"}, {"variant": "resize=32"}])
def test_a_detector_of_another_identity_is_not_gone_on_from(root, tmp_path, monkeypatch, changes):
    begin(monkeypatch, study(root), None, tmp_path)
    with pytest.raises(FinetuneError, match=rf"the checkpoint belongs to .*{FOLDER}/last\.pt.*or delete it"):
        detect_study(study(root, resume=True, **changes), None, tmp_path, Quiet())
    assert detect_study(study(root, resume=True), None, tmp_path, Quiet())


def test_a_finished_detector_of_another_identity_is_not_returned(root, tmp_path):
    store, told = open_store(str(tmp_path / "store.zarr"), mode="a"), Quiet()
    detect_study(study(root), store, tmp_path / "a", Quiet())
    found = detect_study(study(root, weights="random:1", resume=True), store, tmp_path / "a", told)
    fresh = detect_study(study(root, weights="random:1"), None, tmp_path / "b", Quiet())
    detections = [one.files[f"{FOLDER}/detections.json"].read_bytes() for one in (found, fresh)]
    assert detections[0] == detections[1]
    assert any("a detector of other weights, options or data is replaced" in text for text in told.notices)


def test_a_detector_that_another_training_has_begun_to_replace_is_not_returned(root, tmp_path, monkeypatch):
    store, told = open_store(str(tmp_path / "store.zarr"), mode="a"), Quiet()
    before = detect_study(study(root), store, tmp_path / "a", Quiet())
    begin(monkeypatch, study(root, weights="random:1"), store, tmp_path / "a")
    again = detect_study(study(root), store, tmp_path / "a", told)
    assert told.labels == [f"train {FOLDER}"], "the checkpoint in the folder is that of the other training"
    assert again.tables == before.tables


def test_the_limit_of_detections_follows_the_data_and_is_stated(root, tmp_path, monkeypatch):
    monkeypatch.setattr("finetune.detection.evaluation.LEAST_LIMIT", 1)
    content = json.loads((root / "annotations.json").read_text())
    more = [{"id": 90 + n, "image_id": 8, "category_id": 0, "bbox": [4 * n, 3, 9, 9], "iscrowd": 0} for n in range(4)]
    folder = tmp_path / "set"
    folder.mkdir()
    for path in root.glob("*.fits"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "annotations.json").write_text(json.dumps(content | {"annotations": content["annotations"] + more}))
    data = prepare_data(f"coco:{folder}", f"resize={SIDE}", "all")
    detector = make_detector(study(folder), data, "timm:test_efficientnet", 0)
    assert detector.heads.detections_per_img == data.limit == 5
    result = detect_study(study(folder), None, tmp_path / "out", Quiet())
    params = [json.loads(text) for text in pd.read_csv(result.files["results.csv"])["params"]]
    assert {one["max_detections"] for one in params} == {5}
    assert pd.read_csv(result.files["summary.csv"])["max_detections"].tolist() == [5]
    assert "the best 5 detections count" in " ".join(result.tables[0].split())


def test_test_images_choose_nothing(root, tmp_path, monkeypatch):
    """Without a validation split the score is followed on test images, and best weights must not be kept by it."""
    given = []
    monkeypatch.setattr(
        "finetune.detection.study.train_detector",
        lambda *args, **options: (
            given.append(args[2].trainer),
            pd.DataFrame({"epoch": [1], "loss_objectness": [0.5], "score": [0.1]}),
        )[1],
    )
    training = replace(study(root).training, trainer=TrainerOptions(keep_best=True, patience=3))
    told = Quiet()
    detect_study(study(root, training=training, weights="random:1"), None, tmp_path, told)
    assert [(one.keep_best, one.patience) for one in given] == [(False, 0)]
    assert any("no validation image has an object, so nothing is chosen by the score" in text for text in told.notices)


def test_more_processes_make_another_detector(root, tmp_path, monkeypatch):
    store, alone, together = open_store(str(tmp_path / "store.zarr"), mode="a"), Quiet(), Quiet()
    detect_study(study(root), store, tmp_path / "a", alone)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("finetune.trainer.join_processes", lambda _: Processes())
    detect_study(study(root), store, tmp_path / "a", together)
    assert together.labels == alone.labels


def test_seen_test_images_are_refused_or_told(root, tmp_path, monkeypatch):
    packed = pack_rows(["6.fits", "0.fits"])
    monkeypatch.setattr("finetune.detection.study.training_rows", lambda spec, *_: {spec.name: packed})
    with pytest.raises(SeenRowsError, match="was trained on 1 of the 3 test rows"):
        detect_study(study(root), None, tmp_path, Quiet())
    found = detect_study(study(root, allow_seen_rows=True), None, tmp_path, Quiet())
    assert SEEN in found.tables[0]
    assert pd.read_csv(found.files["summary.csv"])[SEEN].tolist() == [1]


def test_seen_test_images_of_a_cached_run_are_told(root, tmp_path, monkeypatch):
    """It was cached by a version that did not look."""
    store, again = open_store(str(tmp_path / "store.zarr"), mode="a"), Quiet()
    detect_study(study(root), store, tmp_path / "a", Quiet())
    monkeypatch.setattr("finetune.detection.study.training_rows", lambda spec, *_: {spec.name: pack_rows(["6.fits"])})
    found = detect_study(study(root, allow_seen_rows=True), store, tmp_path / "a", again)
    assert again.labels == []
    assert pd.read_csv(found.files["summary.csv"])[SEEN].tolist() == [1]


def test_further_seeds_join_those_that_an_older_version_cached(root, tmp_path):
    store = open_store(str(tmp_path / "store.zarr"), mode="a")
    detect_study(study(root), store, tmp_path / "a", Quiet())
    (identity,) = store.list_cached("detected")
    save_run(store, identity, replace(cached_run(store, identity), method=""), prepare(root).dataset.table)
    found = detect_study(study(root, seeds=2), store, tmp_path / "a", Quiet())
    assert pd.read_csv(found.files["summary.csv"])["runs"].tolist() == [2]
    assert len({run.method for run in cached_runs(store, [prepare(root).dataset.table.name])}) == 1


def test_runs_of_a_study_share_a_method_and_other_options_have_another(root, tmp_path):
    store = open_store(str(tmp_path / "store.zarr"), mode="a")
    detect_study(study(root, seeds=2), store, tmp_path / "a", Quiet())
    detect_study(study(root, weights="random:1"), store, tmp_path / "b", Quiet())
    first, other, second = cached_runs(
        store, [prepare_data(f"coco:{root}", f"resize={SIDE}", "all").dataset.table.name]
    )
    assert (first.seed, other.seed, second.seed) == (0, 0, 1)
    assert len({first.method, other.method}) == 2
    assert second.method in {first.method, other.method}
    assert sorted(summarise([first, other, second])["runs"]) == [1, 2]


def test_the_seed_makes_the_detector(root):
    data = prepare_data(f"coco:{root}", f"resize={SIDE}", "all")
    weights = [
        make_detector(study(root), data, "timm:test_efficientnet", seed).heads.box_head.fc6.weight for seed in (0, 0, 1)
    ]
    assert (weights[0] == weights[1]).all()
    assert (weights[0] != weights[2]).any()


def test_rows_of_a_study_name_the_backbone(root, tmp_path):
    result = detect_study(study(root, mode="scratch"), None, tmp_path, Quiet())
    frame = pd.read_parquet(result.files["results.parquet"])
    assert frame["head"].unique().tolist() == ["detect:scratch"]
    assert frame["backbone"].unique().tolist() == ["timm:test_efficientnet"]
    assert list(frame.columns) == list(to_frame([]).columns)


def test_what_a_study_refuses():
    with pytest.raises(UnknownNameError, match="mode"):
        DetectionStudy("x", ("lite0",), mode="thawed")
    with pytest.raises(UsageError, match="the study names no backbones"):
        DetectionStudy("x", ())
    with pytest.raises(ProbeError, match="label fractions"):
        DetectionStudy("x", ("lite0",), fractions=(0,))
