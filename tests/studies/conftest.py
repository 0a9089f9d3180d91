"""A reporter that remembers, and a study on a small store of made-up features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featurestore.store import open_store
from featurestore.store.entry import DONE, UNREADABLE, Block
from probes.projection import Projection
from studies import stages
from studies.study_file.spec import FigureOptions, ProbeOptions, Study

BROKEN = 5


class Recorder:
    """Steps of each progress, and notices."""

    def __init__(self):
        self.steps, self.notices = {}, []

    def progress(self, label):
        return lambda done, total: self.steps.setdefault(label, []).append((done, total))

    def notice(self, text):
        if text:
            self.notices.append(text)


@pytest.fixture
def reporter():
    return Recorder()


class FakeDataset:
    def __init__(self, table):
        self.table = table


@pytest.fixture
def fake_dataset():
    """A dataset that is its table alone."""
    return FakeDataset


@pytest.fixture
def put(make_table, make_key):
    """``put(store, variant=..., **key)``: 90 separable rows of 3 classes, one of them unreadable."""

    def write(store, variant="full-224", provenance=None, backbone="net_b", **key):
        labels = np.arange(90) % 3
        table = make_table(labels, splits=["train"] * 60 + ["test"] * 30)
        store.put_dataset(table)
        values = np.eye(3, 4)[labels] * 3 + np.random.default_rng(1).normal(size=(90, 4))
        state = np.full(90, DONE, np.uint8)
        state[BROKEN] = UNREADABLE
        arrays = store.create(
            "toy",
            variant,
            backbone,
            make_key(backbone=backbone, **key),
            {"cls": (4,)},
            provenance or {"weights": "hub"},
        )
        block = Block(
            {"cls": values.astype(np.float32)},
            state,
            np.zeros((90, 16), np.uint8),
            table.fingerprints,
            {BROKEN: "cut off"},
            sample_hashes=table.id_hashes,
        )
        arrays.write_block(0, block)
        return arrays

    return write


@pytest.fixture
def store(tmp_path, put):
    opened = open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=128)
    put(opened)
    return opened


@pytest.fixture
def study(fake_heads):
    probe = ProbeOptions(heads=("centroids",), fractions=(50, 100), seeds=2)
    return Study(("toy",), ("net_b",), probe=probe, figures=FigureOptions(projection=False))


@pytest.fixture
def projected(monkeypatch):
    """A projection without UMAP, which would compile for ten seconds."""
    seen = []

    def project(store, matrix):
        seen.append(matrix.backbone)
        parameters = {"n_neighbors": 15, "min_dist": 0.1, "seed": 0}
        return Projection(matrix.values[:, :2], matrix.values, np.full(4, 0.25), parameters)

    monkeypatch.setattr(stages, "cached_projection", project)
    return seen


@pytest.fixture
def mapping(tmp_path):
    """``mapping(text)``: a mapping file of the default scheme of the toy dataset."""

    def write(text):
        path = tmp_path / "bright.toml"
        path.write_text(f"[classes]\n{text}\n")
        return str(path)

    return write


@pytest.fixture
def relabelled():
    """``relabelled(study, path)``: the study with the labels of a mapping file."""

    def make(study, path):
        return replace(study, probe=replace(study.probe, labels=(path,)))

    return make
