from __future__ import annotations

import errno
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import zarr
import zarr.storage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import featurestore
from featurestore.errors import (
    CorruptStoreError,
    MissingFeaturesError,
    StoreError,
    StoreWriteError,
    UsageError,
)
from featurestore.store import open_store

PLACE = ("galaxies", "resize=224,crop=box:0.2", "timm:resnet18.a1_in1k")


def test_the_facade_offers_the_store() -> None:
    assert featurestore.open_store is open_store
    assert featurestore.FeatureStore.__name__ == "FeatureStore"
    assert featurestore.errors.StoreError is StoreError
    assert {"FeatureKey", "FeatureSet"} < set(featurestore.__all__)
    assert all(hasattr(featurestore, name) for name in featurestore.__all__)
    with pytest.raises(AttributeError, match="torch"):
        featurestore.torch  # noqa: B018


def test_a_volatile_store_forgets_what_is_put(full, store_path: str, make_table) -> None:
    reader, table = open_store(store_path, volatile=True), make_table(11)
    assert reader.put_dataset(table).tolist() == list(range(11))
    reader.put_cached("kind", "1f", {"x": np.arange(3)}, {"a": 1})
    assert reader.dataset(table.name).sample_ids == table.sample_ids
    assert reader.list_cached("kind") == ["1f"]
    entry = reader.get_cached("kind", "1f")
    assert entry is not None and entry.arrays["x"].tolist() == [0, 1, 2] and entry.attributes == {"a": 1}
    again = open_store(store_path)
    assert len(again.dataset(table.name)) == 10
    assert again.list_cached("kind") == [] and again.get_cached("kind", "1f") is None
    assert not open_store(store_path, mode="a", volatile=True).volatile


def test_the_source_of_a_dataset_is_told_without_its_samples(full, store) -> None:
    (name,) = store.datasets()
    assert store.source(name) == store.dataset(name).source
    assert store.source("nothing") == ""


def test_a_full_disk_leaves_what_was_committed(full, store, make_block, monkeypatch, expected) -> None:
    names = store.sample_ids("galaxies")

    def refuse(path: Path, *args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(zarr.storage._local, "_put", refuse)
        with pytest.raises(StoreWriteError, match="No space left on device"):
            full.write_block(0, make_block(names[:4], version=1))
        with pytest.raises(StoreWriteError, match="No space left on device"):
            full.add_request("x")
    np.testing.assert_array_equal(store.load(*PLACE).values, expected(names))


def test_a_store_opened_for_reading_refuses_writes(full, store_path: str, make_table, make_block) -> None:
    reader = open_store(store_path)
    arrays = reader.select()
    assert reader.put_dataset(make_table(10)).tolist() == list(range(10))
    for write in (
        lambda: reader.put_dataset(make_table(11)),
        lambda: arrays.write_block(0, make_block(make_table(10).sample_ids[:4])),
        lambda: arrays.add_request("x"),
        lambda: reader.remove(arrays),
        lambda: reader.put_cached("k", "d", {}, {}),
    ):
        with pytest.raises(StoreWriteError, match=r'opened for reading.*mode="a"'):
            write()


# Datasets


def test_datasets_are_known_by_name(store, make_table) -> None:
    store.put_dataset(make_table(3))
    store.put_dataset(make_table(2, name="a/b: c"))
    assert store.datasets() == ["a/b: c", "galaxies"]
    assert store.dataset("a/b: c").sample_ids == make_table(2).sample_ids
    with pytest.raises(MissingFeaturesError, match=r"no dataset 'x'.*Stored: a/b: c, galaxies"):
        store.dataset("x")


def test_a_dataset_that_did_not_change_writes_nothing(store, store_path: str, make_table, monkeypatch) -> None:
    store.put_dataset(make_table(10, boxes=True))
    monkeypatch.setattr(zarr.storage._local, "_put", None)
    assert open_store(store_path, mode="a").put_dataset(make_table(10, boxes=True)).tolist() == list(range(10))


def test_a_dataset_may_grow_shrink_and_be_reordered(store, store_path: str, make_table) -> None:
    names = make_table(5).sample_ids
    assert store.put_dataset(make_table(names)).tolist() == [0, 1, 2, 3, 4]
    longer = (names[4], "a much longer name than all of those before/x.png", names[0], names[2])
    assert store.put_dataset(make_table(longer, version=1)).tolist() == [4, 5, 0, 2]
    again = open_store(store_path)
    assert again.sample_ids("galaxies") == (*names, longer[1])
    assert again.dataset("galaxies").sample_ids == (names[0], names[2], names[4], longer[1])
    assert store.put_dataset(make_table(names)).tolist() == [0, 1, 2, 3, 4]
    assert len(list((Path(store_path) / "datasets" / "galaxies").iterdir())) == 3  # zarr.json, columns, one revision


def test_labels_and_splits_are_those_of_the_last_table(store, make_table) -> None:
    store.put_dataset(make_table(4))
    store.put_dataset(make_table(4, splits=np.array(["test"] * 4), labels={}, classes={}))
    assert store.dataset("galaxies").splits.tolist() == ["test"] * 4
    assert store.dataset("galaxies").schemes == ()


def test_another_process_may_change_the_dataset(store, store_path: str, make_table) -> None:
    store.put_dataset(make_table(3))
    reader = open_store(store_path)
    assert len(reader.dataset("galaxies")) == 3
    store.put_dataset(make_table(5))
    assert len(reader.dataset("galaxies")) == 5


def test_a_revision_that_is_replaced_while_it_is_read(store, store_path: str, make_table, monkeypatch) -> None:
    store.put_dataset(make_table(3))
    reader = open_store(store_path)
    current, calls = reader.tables.current, []

    def switch(path: str) -> str | None:
        found = current(path)
        if not calls:
            store.put_dataset(make_table(5))
        calls.append(found)
        return found

    monkeypatch.setattr(reader.tables, "current", switch)
    assert len(reader.dataset("galaxies")) == 5


def test_a_damaged_dataset_is_refused(store, store_path: str, make_table, damage) -> None:
    store.put_dataset(make_table(3))
    (chunk,) = Path(store_path).glob("datasets/galaxies/columns/sample_id/*/c/0/0")
    damage(chunk)
    with pytest.raises(CorruptStoreError, match="datasets/galaxies"):
        open_store(store_path).dataset("galaxies")


# Features


def test_creating_is_idempotent_and_adds_poolings(store, make_table, make_entry, make_key, fill, expected) -> None:
    table = make_table(10)
    arrays = make_entry(store, table, {"cls": (3,)})
    arrays.add_request("first")
    fill(arrays, table, poolings=["cls"])
    more = store.create(*PLACE, make_key(), {"avg_patch": (5,)}, {"weights": "another"})
    assert dict(more.shapes) == {"cls": (3,), "avg_patch": (5,)}
    assert more.requests == ["first"]
    assert more.provenance["weights"] == "hub"
    np.testing.assert_array_equal(more.read().values, expected(table.sample_ids))
    fill(more, table, poolings=["avg_patch"])
    np.testing.assert_array_equal(more.read("cls").values, expected(table.sample_ids))
    np.testing.assert_array_equal(more.read("avg_patch").values, expected(table.sample_ids, "avg_patch"))


def test_one_key_has_one_width(full, store, make_key) -> None:
    with pytest.raises(StoreError, match="cls has 3 features here, not 4"):
        store.create(*PLACE, make_key(), {"cls": (4,)}, {})


def test_features_need_a_dataset(store, make_key) -> None:
    with pytest.raises(MissingFeaturesError, match="no dataset 'galaxies'"):
        store.create(*PLACE, make_key(), {"cls": (4,)}, {})


def test_storage_types(store, make_table, make_entry) -> None:
    with pytest.raises(UsageError, match=r"unknown storage dtype 'int8'.*float16 or float32"):
        make_entry(store, make_table(3), dtype="int8")


def test_two_precisions_never_collide(store, make_table, make_entry, fill, expected) -> None:
    table = make_table(10)
    for version, precision in enumerate(["fp32", "bf16"]):
        fill(make_entry(store, table, precision=precision), table, version=version)
    for version, precision in enumerate(["fp32", "bf16"]):
        values = store.load(*PLACE, precision=precision).values
        np.testing.assert_array_equal(values, expected(table.sample_ids, version=version))


def test_a_grown_dataset_needs_only_its_new_rows(store, make_table, make_entry, fill, expected) -> None:
    first = make_table(6)
    fill(make_entry(store, first), first)
    grown = make_table(11)
    rows = store.put_dataset(grown)
    with pytest.raises(MissingFeaturesError, match="5 of 11 rows"):
        store.load(*PLACE)
    arrays = make_entry(store, grown)
    assert np.flatnonzero(arrays.pending(grown.fingerprints, np.ones(11, bool))).tolist() == [6, 7, 8, 9, 10]
    fill(arrays, grown, rows)
    np.testing.assert_array_equal(store.load(*PLACE).values, expected(grown.sample_ids))


def test_changed_images_alone_are_computed_again(full, store, make_table, fill, expected) -> None:
    changed = make_table(10)
    changed.fingerprints[[2, 7]] += np.uint64(1)
    rows = store.put_dataset(changed)
    fill(full, changed, rows, version=1)
    values = store.load(*PLACE).values
    old, new = expected(changed.sample_ids), expected(changed.sample_ids, version=1)
    np.testing.assert_array_equal(values, np.where(np.isin(np.arange(10), [2, 7])[:, None], new, old))


def test_removing(full, store, make_entry, make_table) -> None:
    other = make_entry(store, make_table(10), precision="bf16")
    store.remove(full)
    assert [arrays.key for arrays in store.find()] == [other.key]
    assert not (Path(store.path) / full.path).exists()


def test_a_removal_cut_short_leaves_nothing_that_could_be_read(
    full, store, make_table, make_entry, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store.storage, "delete", lambda path: None)
        store.remove(full)
    assert store.find() == []
    again = make_entry(store, make_table(10))
    assert again.counts().missing == 10


def test_features_under_a_colliding_name_are_refused(full, store, make_key) -> None:
    store.storage.set_attributes(full.path, {"sha256": full.key.short + "0" * 52})
    with pytest.raises(StoreError, match="two keys begin with the same 12 digits"):
        store.create(*PLACE, make_key(), {"cls": (3,)}, {})


def test_a_finished_extraction_is_recognised_without_reading_values(
    full, store_path: str, make_table, monkeypatch
) -> None:
    full.add_request("request")
    read: list[str] = []
    reader = open_store(store_path)
    read_files = reader.storage.read_files
    monkeypatch.setattr(reader.storage, "read_files", lambda keys, *rest: read.extend(keys) or read_files(keys, *rest))
    reader.put_dataset(make_table(10))
    (arrays,) = reader.find(*PLACE)
    assert arrays.requests == ["request"]
    assert read == []
    assert not arrays.pending(make_table(10).fingerprints, np.ones(10, bool), poolings=["cls"]).any()
    assert {key.split("/")[-3] for key in read} <= {"stamp", "cls"} | {"state"}
    assert not [key for key in read if "values" in key]


def test_an_object_store(make_table, make_entry, fill, expected) -> None:
    store = open_store(f"memory://{uuid4().hex}/s.zarr", mode="a", block_rows=4)
    table = make_table(10)
    fill(make_entry(store, table), table)
    assert store.datasets() == ["galaxies"]
    np.testing.assert_array_equal(open_store(store.path).load(*PLACE).values, expected(table.sample_ids))
    store.remove(store.select())
    assert store.find() == []


# Histories

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(1, 14)),
        st.tuples(st.just("change"), st.integers(0, 13)),
        st.tuples(st.just("write"), st.integers(0, 3)),
        st.tuples(st.just("discard"), st.integers(0, 3)),
        st.tuples(st.just("reopen"), st.just(0)),
    ),
    max_size=12,
)


@given(dtype=st.sampled_from(["float16", "float32"]), steps=STEPS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_reads_back_what_was_written(
    tmp_path_factory, make_table, make_entry, make_block, expected, dtype: str, steps: list[tuple[str, int]]
) -> None:
    store = open_store(str(tmp_path_factory.mktemp("h") / "s"), mode="a", block_rows=4)
    n, versions, written = 3, [0] * 14, {}
    arrays = make_entry(store, make_table(n), dtype=dtype)
    for step, number in steps:
        names = make_table(n).sample_ids
        if step == "grow":
            n = max(n, number)
            arrays = make_entry(store, make_table(n), dtype=dtype)
        elif step == "change":
            versions[number] += 1
        elif step == "reopen":
            store = open_store(store.path, mode="a")
            arrays = store.select(dtype=dtype)
        elif number * 4 < n:
            own = range(number * 4, min(n, number * 4 + 4))
            for row in own:
                written.pop(row, None)
            if step == "discard":
                arrays.discard_block(number)
                continue
            for row in own:  # one row at a time: each write merges with what is in its block
                block = make_block([names[r] if r == row else None for r in own], versions[row])
                arrays.write_block(number, block)
                written[row] = versions[row]
    names = make_table(n).sample_ids
    for pooling in ("cls", "avg_patch"):
        features = store.select().read(pooling, allow_partial=True)
        assert features.table.sample_ids == tuple(names[row] for row in sorted(written))
        wanted = [expected([names[row]], pooling, written[row]) for row in sorted(written)]
        np.testing.assert_array_equal(features.values, np.concatenate(wanted) if wanted else features.values[:0])
    assert store.select().counts().missing == n - len(written)
