"""Streamed heads against the same heads on the same features in memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from featurestore.errors import ProbeError
from featurestore.store import open_store
from featurestore.store.entry import DONE, UNREADABLE, Block
from featurestore.store.layout.blocked_array import BlockedArray
from probes.sweep import streaming
from probes.sweep.plan import plan
from probes.sweep.sweep import cached_sweep, fit_many, sweep

N, D, BLOCK = 600, 12, 32
GRID = {"fractions": [20, 100], "seeds": 2}
FIXED = {"linear": {"Cs": [0.1]}}


@pytest.fixture
def stored(tmp_path, make_table, make_key):
    """600 rows of 3 classes in the order of their labels, 400 of them for training; every 50th is unreadable."""
    rng = np.random.default_rng(5)
    labels = np.sort(rng.choice(3, N, p=[0.5, 0.3, 0.2]))
    labels[::40] = -1
    table = make_table(labels, splits=np.where(rng.permutation(N) < 400, "train", "test"))
    values = rng.normal(size=(3, D))[labels] + 1.5 * rng.normal(size=(N, D))
    values = (values @ rng.normal(size=(D, D)) + 20).astype(np.float32)
    values[:, 3] = 7
    state = np.where(np.arange(N) % 50 == 0, UNREADABLE, DONE).astype(np.uint8)
    store = open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=BLOCK)
    store.put_dataset(table)
    arrays = store.create("toy", "full-224", "net_b", make_key(dtype="float32"), {"cls": (D,)}, {})
    for block, start in enumerate(range(0, N, BLOCK)):
        rows = slice(start, min(start + BLOCK, N))
        reasons = {row: "cut off" for row in range(start, rows.stop) if row % 50 == 0}
        content = np.zeros((rows.stop - start, 16), np.uint8)
        own = {"fingerprints": table.fingerprints[rows], "sample_hashes": table.id_hashes[rows]}
        data = Block({"cls": values[rows]}, state[rows], content, reasons=reasons, **own)
        arrays.write_block(block, data)
    return arrays.open()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Buffers of three store blocks, and passes in blocks of 50 rows, so that nothing fits into one."""
    monkeypatch.setattr(streaming, "BUFFER_BYTES", 3 * BLOCK * D * 4)
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 50 * D * 4)
    monkeypatch.setattr(streaming, "SAMPLE_ROWS", 100)


def test_cv_heads_equal_those_in_memory(stored):
    runs = sweep(stored, ["linear"], options=FIXED, **GRID)
    expected = sweep(stored.read(), ["linear"], options=FIXED, **GRID)
    for run, other in zip(runs, expected, strict=True):
        np.testing.assert_allclose(run.probabilities, other.probabilities, atol=1e-3)
        for name in ("fraction", "seed", "n_train", "n_features", "sample_ids", "classes"):
            assert getattr(run, name) == getattr(other, name)
        assert {"C": 0.1, "folds": 0}.items() <= run.params.items()


def test_a_cv_head_is_scikit_learns_optimum(stored):
    (run,) = sweep(stored, ["linear"], options=FIXED, fractions=[30], seeds=[4])
    (task,) = plan(stored, ["linear"], fractions=[30], seeds=[4])
    values, labels = stored.values(), stored.table.labels["kind"]
    scaler = StandardScaler().fit(values[task.train])
    oracle = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=10_000)
    oracle.fit(scaler.transform(values[task.train]), labels[task.train])
    expected = oracle.predict_proba(scaler.transform(values[task.test]))
    np.testing.assert_allclose(run.probabilities, expected, atol=2e-3)


def test_the_optimum_depends_neither_on_the_sample_nor_on_who_shares_the_pass(stored, monkeypatch):
    together = sweep(stored, ["linear"], options=FIXED, **GRID)
    monkeypatch.setattr(streaming, "HEADS_TOGETHER", 1)
    monkeypatch.setattr(streaming, "SAMPLE_ROWS", 10**6)
    alone = sweep(stored, ["linear"], options=FIXED, **GRID)
    for run, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(run.probabilities, other.probabilities, atol=1e-3)


def test_heads_of_different_classes_are_fitted_apart(stored):
    labels = stored.table.labels["kind"]
    tasks = plan(stored, ["linear"], fractions=[100], seeds=2, options=FIXED)
    tasks[1] = replace(tasks[1], train=tasks[1].train[labels[tasks[1].train] != 1])
    runs = fit_many(stored, tasks)
    expected = fit_many(stored.read(), tasks)
    for run, other in zip(runs, expected, strict=True):
        np.testing.assert_allclose(run.probabilities, other.probabilities, atol=1e-3)
    assert not runs[1].probabilities[:, 1].any()


def test_a_C_that_nobody_fixed_is_the_default_one(stored):
    (run,) = sweep(stored, ["linear"], options={"linear": {"default_C": 0.3}}, fractions=[100], seeds=1)
    assert run.params["C"] == 0.3
    assert run.params["streamed"] == "all rows in every step, C not cross-validated"


def test_paper_heads_reach_the_scores_of_those_in_memory(stored):
    grid = GRID | {"protocol": "paper", "options": {"linear": {"epochs": 100, "learning_rate": 0.02}}}
    runs = sweep(stored, ["linear"], **grid)
    expected = sweep(stored.read(), ["linear"], **grid)
    scores, others = ([run.scores.macro["f1"] for run in some] for some in (runs, expected))
    np.testing.assert_allclose(scores, others, atol=0.03)
    assert min(scores) > 0.5
    assert runs[0].params["streamed"] == f"rows shuffled in buffers of {3 * BLOCK}, each of random blocks of {BLOCK}"
    assert runs[0].params["epochs"] == 100
    np.testing.assert_allclose(runs[0].probabilities.sum(axis=1), 1, rtol=1e-5)


def test_paper_heads_take_as_many_steps_as_in_memory(stored):
    """A batch of all rows makes one step an epoch, whose gradient no order can change."""
    grid = GRID | {"protocol": "paper", "options": {"linear": {"epochs": 7, "batch_size": 1000, "learning_rate": 0.5}}}
    runs, expected = (sweep(features, ["linear"], **grid) for features in (stored, stored.read()))
    for run, other in zip(runs, expected, strict=True):
        np.testing.assert_allclose(run.probabilities, other.probabilities, atol=1e-5)


@pytest.mark.parametrize("protocol", ["cv", "paper"])
def test_numbers_depend_neither_on_threads_nor_on_what_else_is_fitted(stored, protocol):
    given = {"protocol": protocol, "options": {"linear": {"epochs": 3}}, "fractions": [20, 100]}
    runs = sweep(stored, ["linear"], seeds=[0, 1], n_jobs=1, **given)
    again = sweep(stored, ["linear"], seeds=[0, 1], n_jobs=3, **given)
    for run, other in zip(runs, again, strict=True):
        np.testing.assert_array_equal(run.probabilities, other.probabilities)
    if protocol == "paper":
        alone = sweep(stored, ["linear"], seeds=[1], **given)
        np.testing.assert_array_equal(alone[0].probabilities, runs[1].probabilities)


def test_labels_and_values_of_test_rows_change_no_head(stored, monkeypatch):
    tasks = plan(stored, ["linear"], **GRID)
    before = fit_many(stored, tasks)
    hidden = np.ones(N, dtype=bool)
    hidden[stored.kept[np.unique(np.concatenate([task.train for task in tasks]))]] = False
    read = BlockedArray.read_rows

    def disturbed(array, rows, *given, **options):
        values = read(array, rows, *given, **options)
        return np.where(hidden[rows][:, None], np.float32(1e3), values)

    monkeypatch.setattr(BlockedArray, "read_rows", disturbed)
    with ThreadPoolExecutor(1) as pool:
        heads = streaming.fit_heads(stored, tasks, pool)
    monkeypatch.undo()
    for head, run, task in zip(heads, before, tasks, strict=True):
        np.testing.assert_allclose(head.predict_proba(stored.values(task.test)), run.probabilities, atol=1e-6)


@pytest.mark.parametrize("protocol", ["cv", "paper"])
def test_no_more_rows_are_read_at_once_than_a_buffer_holds(stored, protocol, monkeypatch):
    sizes, lock, read = [], threading.Lock(), BlockedArray.read_rows

    def watched(array, rows, *given, **options):
        with lock:
            sizes.append(len(rows))
        return read(array, rows, *given, **options)

    monkeypatch.setattr(BlockedArray, "read_rows", watched)
    sweep(stored, ["linear"], protocol=protocol, options={"linear": {"epochs": 2}}, **GRID)
    bound = {"cv": 100, "paper": 3 * BLOCK}[protocol]
    assert 0.9 * bound < max(sizes) <= bound


def test_streamed_runs_are_cached_apart_from_those_in_memory(stored, dict_store, monkeypatch):
    given = {"fractions": [100], "seeds": 1, "options": FIXED}
    first = cached_sweep(dict_store, stored, ["linear"], **given)
    monkeypatch.setattr(streaming, "fit_heads", None)
    again = cached_sweep(dict_store, stored, ["linear"], **given)
    np.testing.assert_array_equal(first[0].probabilities, again[0].probabilities)
    cached_sweep(dict_store, stored.read(), ["linear"], **given)
    assert dict_store.puts == 2


@pytest.mark.parametrize("head", ["knn", "mlp", "whitened"])
def test_a_head_that_needs_all_rows_is_refused(stored, head):
    with pytest.raises(ProbeError, match=f"the head '{head}' needs all 588 x 12 features in memory") as caught:
        sweep(stored, ["linear", head])
    assert "Fit the head linear" in caught.value.hint
    assert plan(stored.read(), ["linear", head])
