"""Blocks are committed when they are whole, and what is done of them when that takes long."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from featurestore.extraction.extract import extract_features
from featurestore.extraction.processing import COMMIT_SECONDS, Hooks
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store import open_store
from featurestore.store.entry import FeatureEntry
from featurestore.store.layout.claims import Claims
from featurestore.store.verify import verify

N, BLOCK = 37, 16
OPTIONS = ExtractionOptions(weights="random:0", engine="torch", dtype="float32", batch_size=4, workers=2)


def extract(dataset, store, clock, variants=("full-224", "center-224"), **kwargs):
    return extract_features(dataset, ["resnet-18"], list(variants), store, OPTIONS, hooks=Hooks(clock=clock), **kwargs)


def ticking(seconds):
    """A clock that goes on by so much whenever it is read."""
    return map(float, itertools.count(0, seconds)).__next__


@pytest.fixture
def make_store(tmp_path):
    return lambda name: open_store(str(tmp_path / name), mode="a", block_rows=BLOCK)


@pytest.fixture
def writes(monkeypatch):
    """Block and number of rows of every commit."""
    write, seen = FeatureEntry.write_block, []

    def spy(self, block, data):
        seen.append((block, int((data.state != 0).sum())))
        write(self, block, data)

    monkeypatch.setattr(FeatureEntry, "write_block", spy)
    return seen


def test_quick_blocks_are_committed_whole(models, make_store, make_dataset, writes):
    extract(make_dataset(), make_store("s"), ticking(0), ["full-224"])
    assert writes == [(0, 16), (1, 16), (2, 5)]


def test_slow_blocks_are_committed_in_parts(models, make_store, make_dataset, writes):
    extract(make_dataset(), make_store("s"), ticking(COMMIT_SECONDS / 2), ["full-224"])
    assert writes == [(0, 8), (0, 8), (1, 8), (1, 8), (2, 5)]


def test_parts_make_the_bytes_of_whole_blocks(models, make_store, make_dataset):
    whole, parts = make_store("whole"), make_store("parts")
    broken = {3, 17}
    extract(make_dataset(broken=broken), whole, ticking(0))
    extract(make_dataset(broken=broken), parts, ticking(COMMIT_SECONDS))
    assert verify(parts) == []
    for variant in ("full-224", "center-224"):
        one, other = (store.load("memory", variant, "resnet-18") for store in (whole, parts))
        assert one.values.tobytes() == other.values.tobytes()
        assert one.unreadable == other.unreadable and len(one.unreadable) == 2


def test_an_interruption_costs_what_was_not_committed(models, make_store, make_dataset):
    store = make_store("s")

    def stop(done, total):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(make_dataset(), store, ticking(COMMIT_SECONDS), progress=stop)
    done = [entry.counts().done for entry in store.find("memory")]
    assert all(0 < number < BLOCK for number in done), "of the first block"
    resumed = make_dataset()
    extract(resumed, store, ticking(0))
    assert len(resumed.decoded) <= N - 8
    whole = make_store("whole")
    extract(make_dataset(), whole, ticking(0))
    one, other = (each.load("memory", "full-224", "resnet-18").values for each in (whole, store))
    assert one.tobytes() == other.tobytes()


def test_the_bar_counts_what_is_committed(models, make_store, make_dataset):
    store, seen = make_store("s"), []

    def look(done, total):
        counts = [entry.counts() for entry in store.find("memory")]
        seen.append((done, total, min(count.done for count in counts)))

    extract(make_dataset(), store, ticking(COMMIT_SECONDS), progress=look)
    assert seen[-1] == (N, N, N)
    assert [done for done, _, _ in seen] == sorted({done for done, _, _ in seen})
    assert all(stored >= done for done, _, stored in seen)
    np.testing.assert_array_equal([total for _, total, _ in seen], N)


def test_rows_that_are_there_are_not_counted(models, make_store, make_dataset, make_images):
    store, seen = make_store("s"), []
    extract(make_dataset(make_images(20), ids=[f"s{row:03d}" for row in range(20)]), store, ticking(0))
    extract(make_dataset(), store, ticking(0), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (17, 17)


@pytest.fixture
def other(make_store, models, make_dataset):
    """Claims of another writer, in a store that knows the features but has none."""
    store = make_store("s")
    extract(make_dataset(), store, ticking(0), ["full-224"], choose=lambda blocks: [])
    with Claims(store.storage) as claims:
        yield claims, store, store.select("memory").path


def test_a_block_that_another_writer_has_is_left_to_it_and_waited_for(make_dataset, other, writes):
    claims, store, path = other
    claims.acquire(path, 1)
    told, seen = [], []

    def wait(seconds):
        seen.append([block for block, _ in writes])
        claims.release(path, 1)

    hooks = Hooks(wait=wait, notice=told.append, clock=ticking(0), progress=lambda *both: seen.append(both))
    dataset = make_dataset()
    report = extract_features(dataset, ["resnet-18"], ["full-224"], store, OPTIONS, hooks=hooks)
    assert [block for block, _ in writes] == [0, 2, 1]
    assert [0, 2] in seen and seen[-1] == (N, N)
    assert max(dataset.decoded.values()) == 1 and report.features[0].embedded == N
    (notice,) = told
    assert notice.startswith("Waiting for 1 blocks that others compute, the first by process ")


def test_what_another_writer_did_meanwhile_is_not_done_again(make_dataset, other, writes):
    claims, store, path = other
    claims.acquire(path, 1)
    progress = []

    def wait(seconds):
        claims.release(path, 1)
        again = make_dataset()
        extract_features(again, ["resnet-18"], ["full-224"], store, OPTIONS)
        assert len(again.decoded) == BLOCK

    dataset = make_dataset()
    hooks = Hooks(wait=wait, clock=ticking(0), progress=lambda *both: progress.append(both))
    report = extract_features(dataset, ["resnet-18"], ["full-224"], store, OPTIONS, hooks=hooks)
    assert len(dataset.decoded) == N - BLOCK == report.features[0].embedded
    assert sorted(block for block, _ in writes) == [0, 1, 2]
    assert progress[-1] == (N, N)


def test_of_overlapping_requests_each_computes_what_the_other_does_not(make_dataset, other, writes):
    claims, store, path = other
    claims.acquire(path, 0)
    extract(make_dataset(), store, ticking(0), choose=lambda blocks: [1, 2])
    hooks = Hooks(wait=lambda seconds: claims.release(path, 0), clock=ticking(0))
    writes.clear()
    report = extract_features(make_dataset(), ["resnet-18"], ["full-224", "center-224"], store, OPTIONS, hooks=hooks)
    assert writes == [(0, BLOCK), (0, BLOCK)]
    assert [one.embedded for one in report.features] == [BLOCK, BLOCK]


def test_processes_that_extract_the_same_share_the_work(models, make_store, make_dataset, writes):
    whole, shared = make_store("whole"), make_store("shared")
    extract(make_dataset(), whole, ticking(0))
    writes.clear()
    with ThreadPoolExecutor(4) as pool:
        datasets = [make_dataset() for _ in range(4)]
        hooks = Hooks(wait=lambda seconds: None)
        variants = ["full-224", "center-224"]
        stores = [open_store(shared.path, mode="a") for _ in range(4)]
        list(
            pool.map(
                lambda dataset, store: extract_features(dataset, ["resnet-18"], variants, store, OPTIONS, hooks=hooks),
                datasets,
                stores,
            )
        )
    assert len(writes) == 6, "each block once for each variant"
    for variant in variants:
        one, other = (store.load("memory", variant, "resnet-18") for store in (whole, shared))
        assert one.values.tobytes() == other.values.tobytes()
    assert verify(shared) == []


def test_an_error_gives_back_all_claims(models, make_store, make_dataset):
    store = make_store("s")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(make_dataset(), store, ticking(0), progress=stop)
    assert store.storage.children("claims") == []


def test_there_are_batches_for_every_worker_however_small_blocks_are(models, tmp_path, make_dataset, make_images):
    """Twelve workers, and two batches a block: each worker waits for the others inside its first image."""
    dataset, together = make_dataset(make_images(48 * 2)), Barrier(12, timeout=60)
    read = dataset.read

    def wait(row):
        if row % 4 == 0:
            together.wait()
        return read(row)

    dataset.read = wait
    store = open_store(str(tmp_path / "s"), mode="a", block_rows=8)
    options = ExtractionOptions(weights="random:0", engine="torch", dtype="float32", batch_size=4, workers=12)
    extract_features(dataset, ["resnet-18"], ["full-224"], store, options)
    assert sum(dataset.decoded.values()) == 96
