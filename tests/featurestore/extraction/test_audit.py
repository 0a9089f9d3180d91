"""The audit finds values that checksums cannot: wrong ones that were written properly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featurestore.backbones.catalogue import find_spec
from featurestore.errors import StoreError, UsageError
from featurestore.extraction import requests
from featurestore.extraction.audit import audit
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store.entry import DONE, MISSING, Block
from featurestore.store.verify import verify

OPTIONS = ExtractionOptions(weights="random:0", engine="torch", batch_size=4, workers=1)


@pytest.fixture
def extract(models, store, monkeypatch):
    """Features of 11 images in two poolings."""
    spec = replace(find_spec("resnet-18"), poolings=("avgpool", "avg_patch"))
    monkeypatch.setattr(requests, "find_spec", lambda name: spec)

    def run(dataset, **changes):
        report = extract_features(dataset, ["resnet-18"], ["resize=8"], store, replace(OPTIONS, **changes))
        return report.features[0].entry

    return run


@pytest.fixture
def dataset(make_dataset, make_images):
    return make_dataset(make_images(11))


def tamper(arrays, dataset, row, pooling, factor):
    """Write a wrong value of one row as a commit does: state, stamp and checksum all fit."""
    values = {name: arrays.read(name).values[row : row + 1].copy() for name in arrays.shapes}
    values[pooling] *= factor
    block, slot = divmod(row, 4)
    rows = np.arange(slot + 1)
    arrays.write_block(
        block,
        Block(
            values={name: np.repeat(value, len(rows), axis=0) for name, value in values.items()},
            state=np.where(rows == slot, DONE, MISSING).astype(np.uint8),
            content=np.zeros((len(rows), 16), np.uint8),
            fingerprints=np.repeat(dataset.table.fingerprints[row], len(rows)),
            sample_hashes=np.repeat(dataset.table.id_hashes[row], len(rows)),
        ),
    )


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_clean_store_passes_in_every_pooling(extract, dataset, dtype):
    arrays = extract(dataset, dtype=dtype)
    audits = audit(arrays, dataset, 5)
    assert [one.features.rpartition("/")[2] for one in audits] == ["avgpool", "avg_patch"]
    assert all(one.features.startswith(f"memory/resize=8/resnet-18/{arrays.key.short}/") for one in audits)
    assert [(one.rows, one.wrong) for one in audits] == [(5, ()), (5, ())]
    assert max(one.largest for one in audits) < {"float16": 1e-3, "float32": 1e-6}[dtype]


@pytest.mark.parametrize("pooling", ["avgpool", "avg_patch"])
def test_a_wrong_row_is_found_and_named_though_its_checksum_fits(extract, store, dataset, pooling):
    arrays = extract(dataset)
    tamper(arrays, dataset, 6, pooling, 1.05)
    assert verify(store) == []
    wrong = {one.features.rpartition("/")[2]: one for one in audit(arrays, dataset, 11)}
    assert wrong.pop(pooling).wrong == ("s006",)
    assert next(iter(wrong.values())).wrong == ()


def test_only_the_chosen_rows_are_read_and_the_seed_chooses(extract, dataset, make_dataset):
    arrays = extract(dataset)
    chosen = []
    for seed in (0, 0, 1):
        fresh = make_dataset(dataset.images)
        audit(arrays, fresh, 3, seed=seed)
        chosen.append(set(fresh.decoded))
    assert len(chosen[0]) == 3
    assert chosen[0] == chosen[1] != chosen[2]


def test_more_rows_than_there_are_means_all(extract, dataset):
    assert {one.rows for one in audit(extract(dataset), dataset, 99)} == {11}


def test_rows_follow_their_sample_whatever_the_order(extract, dataset, make_dataset):
    arrays = extract(dataset)
    order = list(range(10, -1, -1))
    turned = make_dataset([dataset.images[row] for row in order], ids=[f"s{row:03d}" for row in order])
    assert {one.wrong for one in audit(arrays, turned, 11)} == {()}


def test_an_image_that_can_no_longer_be_read_is_named(extract, dataset, make_dataset):
    arrays = extract(dataset)
    assert {one.wrong for one in audit(arrays, make_dataset(dataset.images, broken={3}), 11)} == {("s003",)}


def test_a_pooling_that_is_only_partly_stored_limits_the_choice(extract, store, dataset):
    arrays = extract(dataset, poolings=("avgpool",))

    def stop(done, total):
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(dataset, ["resnet-18"], ["resize=8"], store, OPTIONS, stop)
    (partial,) = store.find("memory")
    assert 0 < partial.counts("avg_patch").done < partial.counts("avgpool").done == 11
    assert {one.rows for one in audit(partial, dataset, 11)} == {partial.counts("avg_patch").done}
    assert arrays.key == partial.key


def test_changed_weights_are_refused(extract, models, dataset):
    arrays = extract(dataset)
    models.weights_hash = "1" * 64
    with pytest.raises(StoreError, match=r"cannot be made again: weights_hash changed .* skyprobe info"):
        audit(arrays, dataset, 3)


def test_another_dataset_and_no_rows_are_refused(extract, dataset, make_dataset, make_images):
    arrays = extract(dataset)
    with pytest.raises(StoreError, match="none of the stored samples"):
        audit(arrays, make_dataset(make_images(2), ids=["x", "y"]), 3)
    for n_rows in (0, -3):
        with pytest.raises(UsageError, match=f"an audit of {n_rows} rows"):
            audit(arrays, dataset, n_rows)


def test_values_that_are_no_numbers_are_wrong(extract, dataset, mean_forward, monkeypatch):
    arrays = extract(dataset)

    def broken(self, pixels):
        return {name: np.full((len(pixels), 4), np.nan, np.float32) for name in self.shapes}

    monkeypatch.setattr(mean_forward, "__call__", broken)
    assert {len(one.wrong) for one in audit(arrays, dataset, 4)} == {4}


def test_rows_are_embedded_in_batches_of_the_stored_size(extract, dataset, mean_forward, monkeypatch):
    """A GPU may compute a batch of another size otherwise."""
    arrays, sizes = extract(dataset, batch_size=3), []
    call = mean_forward.__call__
    monkeypatch.setattr(mean_forward, "__call__", lambda self, pixels: sizes.append(len(pixels)) or call(self, pixels))
    audit(arrays, dataset, 5)
    assert sizes == [3, 3]
