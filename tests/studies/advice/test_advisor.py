"""Advice from a store: what was kept is found without a fit, and every sentence cites its rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featurestore.datasets.base import Sample
from featurestore.errors import MissingFeaturesError, UnknownNameError
from featurestore.samples import Boxes
from featurestore.store import open_store
from featurestore.store.entry import DONE, Block
from finetune.run_cache import save_run
from probes.sweep.sweep import cached_sweep
from studies.advice import advisor
from studies.advice.advice import Advised
from studies.advice.advisor import advise, draw
from studies.result_text import to_text
from studies.terminal import to_json

SPEC = {"patch_size": 16, "params": 21.5}


class Images:
    def __init__(self, table):
        self.table = table

    def read(self, row):
        return Sample(np.zeros((64, 64), np.uint8), bytes(16))


@pytest.fixture
def store(tmp_path, make_features, make_key):
    """Two backbones on 240 rows with a box each; the store knows the runs of three heads on them."""
    opened = open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=256)
    labels = np.arange(240) % 3
    features = make_features(labels, noise=0.8, splits=["train"] * 160 + ["test"] * 80)
    rows = np.arange(240)
    boxes = Boxes(rows, np.tile(np.float32([0, 0, 4, 4]), (240, 1)), np.zeros(240, np.int64), np.zeros(240, bool))
    table = replace(features.table, boxes=boxes, box_classes=("source",))
    opened.put_dataset(table)
    for backbone, weights in (("net-s", "0"), ("net-b", "1")):
        key = make_key(backbone=backbone, weights_hash=weights * 64)
        arrays = opened.create("toy", "full-224", backbone, key, {"cls": (4,)}, {"spec": SPEC})
        values = features.values[:, [1, 2, 3, 3]]
        block = Block(
            {"cls": values},
            np.full(240, DONE, np.uint8),
            np.zeros((240, 16), np.uint8),
            table.fingerprints,
            sample_hashes=table.id_hashes,
        )
        arrays.write_block(0, block)
        cached_sweep(opened, arrays.read("cls"), ["linear", "whitened", "knn"], fractions=(50, 100), seeds=2)
    return opened


@pytest.fixture
def images(store, monkeypatch):
    monkeypatch.setattr(advisor, "open_dataset", lambda text: Images(store.dataset("toy")))


def by_topic(found):
    return {one.topic: one for one in found.advice}


def test_advice_is_read_from_the_store_alone(store, images, monkeypatch, reporter):
    monkeypatch.setattr("probes.sweep.sweep.fit_many", None)
    found = advise(store, "toy", reporter)
    topics = by_topic(found)
    assert list(topics) == [
        "object size", "comparisons", "backbone", "whitening", "an MLP", "another input size", "a crop",
        "another stretch", "labels", "next step",
    ]  # fmt: skip
    assert "is best of 2 backbones" in topics["backbone"].sentence
    assert "21.5 M parameters" in topics["backbone"].sentence
    assert "spans 0.9 patches of 16 px" in topics["object size"].sentence
    assert "whitened instead of linear" in topics["whitening"].sentence
    assert "was not measured" in topics["an MLP"].sentence
    assert topics["a crop"].command.count("-p box-224") == 2


def test_what_was_measured_cites_its_rows_and_what_was_not_has_a_command(store, images, reporter):
    for one in advise(store, "toy", reporter).advice:
        if one.topic == "comparisons":
            continue
        assert one.rows or one.command
        assert ("not measured" in one.sentence) == bool(one.command and one.topic != "object size")


def test_trainings_stand_beside_the_probes(store, images, reporter):
    (run,) = cached_sweep(store, store.load("toy", "full-224", "net-s"), ["knn"], fractions=[100], seeds=1)
    perfect = np.eye(3, dtype=np.float32)[run.truth] * 0.7 + np.float32(0.1)
    for seed in (0, 1):
        tuned = replace(run, head="finetune:full", probabilities=perfect, seed=seed)
        save_run(store, str(seed), tuned, store.dataset("toy"))
    found = advise(store, "toy", reporter, "kind")
    assert "Full tuning of net-s" in by_topic(found)["tuning"].sentence


def test_without_images_the_size_of_objects_is_not_measured(store, reporter):
    assert "was not measured" in by_topic(advise(store, "toy", reporter))["object size"].sentence


def test_without_runs_the_command_that_makes_some_is_given(store, make_evidence):
    found = [one for one in draw(make_evidence(), None) if one.topic == "backbone"]
    assert [(one.sentence, one.rows, one.command) for one in found] == [
        (
            "No linear head on a single backbone was measured.",
            (),
            "skyprobe extract 'my galaxies/' -b dinov2-s",
        )
    ]


def test_runs_on_other_rows_are_told(make_runs, make_evidence):
    older = [replace(run, sample_ids=run.sample_ids[::-1]) for run in make_runs(head="mlp", seeds=2)]
    (found,) = [one for one in draw(make_evidence(make_runs(), older), None) if one.topic == "test rows"]
    assert found.sentence.startswith("2 runs were tested on other rows than most")


def test_backbones_side_by_side_are_ranked_but_advice_starts_from_one_of_them(make_runs, make_evidence):
    evidence = make_evidence(make_runs(wrong=60), make_runs(wrong=20, backbone="dinov2-s+resnet-50"))
    found = {one.topic: one for one in draw(evidence, None)}
    assert found["backbone"].sentence.startswith("dinov2-s+resnet-50")
    assert found["an MLP"].sentence == "Whether an MLP pays on dinov2-s was not measured."


def test_a_dataset_or_scheme_that_is_not_there_is_refused(store, reporter):
    with pytest.raises(UnknownNameError, match="kind"):
        advise(store, "toy", reporter, "kinds")
    store.remove(store.find("toy")[0])
    with pytest.raises(MissingFeaturesError, match="no dataset 'sky'"):
        store.dataset("sky")


def test_advice_is_shown_with_rows_and_commands(store, reporter):
    shown = to_text(Advised("toy", "kind", advise(store, "toy", reporter).advice))
    assert shown.startswith(
        "toy (kind): differences are paired, in macro-F1, with 95 % intervals over test rows and seeds."
    )
    assert "* whitening: whitened instead of linear" in shown
    assert "\n    from toy (kind): net-" in shown
    assert "\n    run skyprobe probe toy -b net-" in shown and f"--store {store.path}\n" in shown
    assert '"topic": "whitening"' in to_json(advise(store, "toy", reporter))
