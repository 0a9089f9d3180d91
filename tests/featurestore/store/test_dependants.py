from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featurestore.store import open_store
from featurestore.store.dependants import KEYS, list_keys
from featurestore.store.upkeep.migration import migrate
from featurestore.store.verify import verify

GOLDEN = Path(__file__).parent / "golden" / "format-1"


def put(store, kind: str, name: str, **attributes) -> None:
    store.put_cached(kind, name, {"x": np.arange(2)}, attributes)


@pytest.fixture
def two(store, make_table, make_entry):
    """The same backbone and variant at two precisions."""
    return [make_entry(store, make_table(4), precision=precision) for precision in ("fp32", "bf16")]


def test_what_says_its_key_goes_with_it(store, two) -> None:
    one, other = two
    names = {"dataset": one.dataset, "variant": one.variant, "backbone": one.backbone}
    put(store, "runs", "1", **names, **{KEYS: list_keys(one.key)})
    put(store, "runs", "2", **names, **{KEYS: list_keys(other.key)})
    put(store, "heads", "3", **names, key=one.key.to_dict())
    put(store, "projection", "4", key=one.key.sha256)
    assert store.dependants(one) == [("heads", "3"), ("projection", "4"), ("runs", "1")]
    store.remove(one)
    assert [store.list_cached(kind) for kind in ("heads", "projection", "runs")] == [[], [], ["2"]]
    assert [entry.path for entry in store.find()] == [other.path]


def test_features_side_by_side_depend_on_each_part(store, two) -> None:
    one = two[0]
    parts = {"parts": [{"key": entry.key.sha256, "pooling": "cls"} for entry in two]}
    key = replace(one.key, preprocessing=parts, model_id="combined", backbone=f"{one.backbone}+x")
    names = {"dataset": one.dataset, "variant": one.variant, "backbone": key.backbone}
    put(store, "runs", "1", **names, **{KEYS: list_keys(key)})
    store.remove(one)
    assert store.list_cached("runs") == []


def test_trainings_and_what_is_of_others_stay(store, two, make_table, make_entry, make_key) -> None:
    one = two[0]
    far = make_table(4, name="far")
    store.put_dataset(far)
    elsewhere = store.create("far", one.variant, one.backbone, one.key, {"cls": (3,)}, {})
    names = {"variant": one.variant, "backbone": one.backbone, KEYS: list_keys(one.key)}
    put(store, "trained", "1", dataset=one.dataset, **names)
    put(store, "runs", "2", dataset="far", **names)
    put(store, "projection", "3", key=one.key.sha256)  # an older one: of either dataset
    store.remove(one)
    assert [store.list_cached(kind) for kind in ("trained", "runs", "projection")] == [["1"], ["2"], ["3"]]
    store.remove(elsewhere)
    assert [store.list_cached(kind) for kind in ("trained", "runs", "projection")] == [["1"], [], []]


def test_older_runs_go_when_nothing_of_their_names_is_left(store, two) -> None:
    one, other = two
    put(store, "runs", "1", dataset=one.dataset, variant=one.variant, backbone=one.backbone)
    store.remove(one)
    assert store.list_cached("runs") == ["1"]
    store.remove(other)
    assert store.list_cached("runs") == []


def test_runs_and_heads_of_format_1_go_with_their_features(tmp_path: Path) -> None:
    migrate(str(shutil.copytree(GOLDEN, tmp_path / "s")))
    store = open_store(str(tmp_path / "s"), mode="a")
    (entry,) = store.find()
    assert [kind for kind, _ in store.dependants(entry)] == ["heads", "runs", "runs"]
    store.remove(entry)
    assert store.list_cached("runs") == store.list_cached("heads") == []
    assert verify(store) == []
