from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from featurestore.errors import FinetuneError, ProbeError, StoreWriteError, UnknownNameError, UsageError
from featurestore.store import open_store
from finetune import study as stages
from finetune.options import FinetuneOptions
from finetune.run_cache import cached_runs
from finetune.study import FinetuneStudy, finetune_study, make_finetune_study

QUICK = {"epochs": 2, "head_epochs": 1, "batch_size": 8, "device": "cpu"}


class Quiet:
    def __init__(self):
        self.notices, self.labels = [], []

    def progress(self, label):
        self.labels.append(label)
        return lambda done, total: None

    def notice(self, text):
        self.notices.append(text)


@pytest.fixture
def reporter():
    return Quiet()


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store.zarr"), mode="a")


@pytest.fixture
def data(tmp_path, make_sky):
    """A folder of images by split and class."""
    sky = make_sky(16, 4, 6)
    for row, image in enumerate(sky.images):
        folder = tmp_path / "sky" / sky.table.splits[row] / ("one", "two")[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"s{row:03d}.png")
    return str(tmp_path / "sky")


@pytest.fixture
def make_study(data):
    def make(backbone="timm:test_resnet", **given):
        return make_finetune_study(data, (backbone,), ("resize=32",), **{"weights": "random:0"} | QUICK | given)

    return make


def test_a_study_gives_tables_models_and_cached_runs(tmp_path, store, reporter, make_study):
    study = make_study(fractions="50,100", seeds=2)
    result = finetune_study(study, store, tmp_path / "out", reporter)
    frame = pd.read_csv(tmp_path / "out" / "results.csv")
    assert set(frame["head"]) == {"finetune:full"}
    assert set(zip(frame["fraction"], frame["seed"], strict=True)) == {(50, 0), (50, 1), (100, 0), (100, 1)}
    assert "50 %" in result.tables[0] and "100 %" in result.tables[0]
    models = sorted(folder for folder in (tmp_path / "out" / "models").iterdir())
    assert len(models) == 4
    for folder in models:
        assert {file.name for file in folder.iterdir()} == {
            "model.safetensors",
            "card.json",
            "README.md",
            "history.csv",
        }
        assert result.files[folder.name] == folder
    assert len(cached_runs(store, store.datasets())) == 4
    assert any("of the parameters trained" in text for text in reporter.notices)


def test_rows_that_early_stopping_holds_back_are_told(tmp_path, store, reporter, make_study, data):
    for path in (tmp_path / "sky" / "valid").rglob("*.png"):
        path.unlink()
    (table,) = finetune_study(make_study(mode="head", epochs=1), store, tmp_path / "a", reporter).tables
    frame = pd.read_csv(tmp_path / "a" / "results.csv")
    n_train, n_valid = (int(frame[name].iloc[0]) for name in ("n_train", "n_valid"))
    assert n_valid > 0 and n_train + n_valid == 16
    assert f"learnt from {n_train} of 16 labelled rows" in table
    (table,) = finetune_study(make_study(mode="head", epochs=1, patience=0), store, tmp_path / "b", reporter).tables
    assert pd.read_csv(tmp_path / "b" / "results.csv")["n_train"].unique().tolist() == [16]
    assert "learnt from" not in table


def test_what_was_trained_is_read(tmp_path, store, reporter, make_study, monkeypatch):
    first = finetune_study(make_study(), store, tmp_path / "out", reporter)
    monkeypatch.setattr(stages, "run_fit", lambda *_, **__: pytest.fail("trained again"))
    assert finetune_study(make_study(), store, tmp_path / "out", reporter).tables == first.tables


def test_a_model_that_is_gone_is_trained_again_to_the_same_weights(tmp_path, store, reporter, make_study):
    finetune_study(make_study(), store, tmp_path / "first", reporter)
    finetune_study(make_study(), store, tmp_path / "second", reporter)
    cards = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*/models/*/card.json"))]
    assert len(cards) == 2
    assert cards[0]["weights_hash"] == cards[1]["weights_hash"]


def test_an_interrupted_study_goes_on_from_its_checkpoint(tmp_path, store, reporter, make_study, monkeypatch):
    original = stages.run_fit

    def interrupted(fit, **given):
        def stop(row):
            if row["epoch"] == 1:
                raise KeyboardInterrupt

        return original(fit, **given | {"on_epoch": stop})

    monkeypatch.setattr(stages, "run_fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finetune_study(make_study(), store, tmp_path / "out", reporter)
    (checkpoint,) = (tmp_path / "out").rglob("last.pt")
    epochs = []

    def counted(fit, **given):
        return original(fit, **given | {"on_epoch": epochs.append})

    monkeypatch.setattr(stages, "run_fit", counted)
    finetune_study(make_study(resume=True), store, tmp_path / "out", reporter)
    assert [row["epoch"] for row in epochs] == [2]
    assert not checkpoint.exists()


def test_unreadable_images_are_listed(tmp_path, data, store, reporter, make_study):
    path = next((tmp_path / "sky" / "train").rglob("*.png"))
    path.write_bytes(b"no image")
    result = finetune_study(make_study(mode="head", epochs=1), store, tmp_path / "out", reporter)
    assert len(result.unreadable) == 1


def test_all_rows_are_checked_before_the_first_training(tmp_path, store, reporter, make_study, monkeypatch):
    monkeypatch.setattr(stages, "run_fit", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(FinetuneError, match="100 % of the labels hide none"):
        finetune_study(make_study(fractions="50,100", unlabelled=True), store, tmp_path / "out", reporter)


def test_the_defaults_are_those_of_the_classes(data):
    study = make_finetune_study(data, ("timm:test_vit",), ("full-224",))
    assert study == FinetuneStudy(data, ("timm:test_vit",), options=FinetuneOptions())


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"fractions": "a"}, UsageError, "'a' is not a list of whole percents"),
        ({"fractions": "0"}, ProbeError, "label fractions must be whole percents"),
        ({"seeds": 0}, UsageError, "seeds should be greater"),
        ({"mode": "fully"}, UnknownNameError, "unknown mode 'fully'"),
        ({"log": ("wandb",)}, UnknownNameError, "unknown logger 'wandb'"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_before_anything_is_read(data, given, error, message):
    with pytest.raises(error, match=message):
        make_finetune_study(data, ("timm:test_vit",), ("full-224",), **given)


@pytest.mark.parametrize("name", ["backbones", "variants"])
def test_a_study_without_names_is_refused(name):
    with pytest.raises(UsageError, match=f"the study names no {name}"):
        FinetuneStudy(**{"data": "sky", "backbones": ("a",), "variants": ("b",)} | {name: ()})


def test_seeds_give_runs_of_their_own(make_study):
    tasks = make_study(seeds=2, fractions="10,50").tasks
    assert [(task.fraction, task.seed) for task in tasks] == [(10, 0), (10, 1), (50, 0), (50, 1)]
    assert np.unique([task.backbone for task in tasks]).tolist() == ["timm:test_resnet"]


def test_a_model_that_cannot_be_written_leaves_its_checkpoint(tmp_path, store, reporter, make_study, monkeypatch):
    def fail(*_):
        raise StoreWriteError("the disk is full", where="model", hint="Free space.")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "save_tuned", fail)
        with pytest.raises(StoreWriteError, match=r"the disk is full .*with --resume"):
            finetune_study(make_study(), store, tmp_path / "out", reporter)
    epochs = []
    monkeypatch.setattr(stages, "make_logger", lambda *_: epochs.append)
    finetune_study(make_study(resume=True), store, tmp_path / "out", reporter)
    assert epochs == [], "all epochs were done"
