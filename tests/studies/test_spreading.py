from __future__ import annotations

import os

import numpy as np
import pytest

from featurestore.errors import MissingFeaturesError, StoreWriteError
from featurestore.store import open_store
from featurestore.store.entry import DONE, Block
from probes.sweep import sweep
from studies import stages
from studies.spreading import list_matrices, probe_matrix, spread_probes
from studies.study_file.spec import ProbeOptions, Study

STUDY = Study(("toy",), ("net_b", "net_c"), probe=ProbeOptions(heads=("linear",), fractions=(100,), seeds=2))


@pytest.fixture
def store(tmp_path, make_table, make_key):
    opened = open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=128)
    labels = np.arange(90) % 3
    table = make_table(labels, splits=["train"] * 60 + ["test"] * 30)
    opened.put_dataset(table)
    for number, backbone in enumerate(STUDY.backbones):
        values = np.eye(3, 4)[labels] + np.random.default_rng(number).normal(size=(90, 4))
        key = make_key(backbone=backbone)
        entry = opened.create("toy", "full-224", backbone, key, {"cls": (4,)}, {"weights": "hub"})
        states, content = np.full(90, DONE, np.uint8), np.zeros((90, 16), np.uint8)
        values = values.astype(np.float32)
        entry.write_block(
            0, Block({"cls": values}, states, content, table.fingerprints, {}, sample_hashes=table.id_hashes)
        )
    return opened


def test_matrices_probed_elsewhere_leave_nothing_to_fit(store, tmp_path, reporter, monkeypatch):
    monkeypatch.chdir(tmp_path)
    alone = open_store(store.path, mode="r", volatile=True)
    wanted = stages.probe_study(STUDY, alone, None, reporter).tables
    parts = list_matrices(STUDY)
    assert [part.backbones for part in parts] == [("net_b",), ("net_c",)]
    assert [probe_matrix(part, store.path, os.getcwd()) for part in parts] == [None, None]  # noqa: PTH109
    fit, fitted = sweep.fit_many, []
    monkeypatch.setattr(sweep, "fit_many", lambda *given, **more: fitted.extend(given[1]) or fit(*given, **more))
    assert stages.probe_study(STUDY, store, None, reporter).tables == wanted and fitted == []


def test_an_error_comes_back(store, tmp_path):
    (part,) = list_matrices(Study(("toy",), ("net_z",)))
    assert isinstance(probe_matrix(part, store.path, str(tmp_path)), MissingFeaturesError)


def test_a_store_that_cannot_keep_the_runs_is_refused(store, reporter):
    with pytest.raises(StoreWriteError, match=r"runs of other machines .* Leave out --executor ray"):
        spread_probes(STUDY, open_store(store.path, mode="r"), None, reporter)
