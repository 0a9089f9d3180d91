from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import CorruptStoreError, MissingFeaturesError, UsageError
from featurestore.store import open_store
from featurestore.store.entry import Counts


def chunk(store, arrays, name: str, block: int) -> Path:
    folder = Path(store.path) / arrays.path / name / "c" / str(block)
    return folder / "0" if folder.is_dir() else folder


def test_reading_gives_values_with_their_samples(full, store, expected) -> None:
    for pooling in ("cls", "avg_patch"):
        features = full.read(pooling)
        assert features.values.dtype == np.float32
        np.testing.assert_array_equal(features.values, expected(features.table.sample_ids, pooling))
        assert features.table.sample_ids == store.dataset("galaxies").sample_ids
        assert (features.variant, features.backbone, features.pooling) == (full.variant, full.backbone, pooling)
        assert features.key == full.key
        assert features.provenance["weights"] == "hub"
    assert full.read().pooling == "cls"


def test_unreadable_rows_are_left_out_and_named(store, make_table, make_entry, fill, expected) -> None:
    table = make_table(10)
    arrays = make_entry(store, table)
    fill(arrays, table, unreadable=[1])
    features = arrays.read("cls")
    good = [name for row, name in enumerate(table.sample_ids) if row % 4 != 1]
    assert list(features.table.sample_ids) == good
    assert features.table.labels["peaks"].tolist() == [table.labels["peaks"][r] for r in range(10) if r % 4 != 1]
    np.testing.assert_array_equal(features.values, expected(good))
    assert features.unreadable == {table.sample_ids[r]: f"cannot decode {table.sample_ids[r]}" for r in (1, 5, 9)}
    assert arrays.counts() == Counts(done=7, unreadable=3, missing=0)


def test_missing_rows_are_never_read_as_zeros(store, make_table, make_entry, make_block) -> None:
    table = make_table(10)
    arrays = make_entry(store, table)
    arrays.write_block(1, make_block(table.sample_ids[4:8]))
    with pytest.raises(MissingFeaturesError) as caught:
        arrays.read("cls")
    assert "6 of 10 rows are not extracted" in str(caught.value)
    assert (
        "Run: skyprobe extract '/data/my galaxies' -b timm:resnet18.a1_in1k -p resize=224,crop=box:0.2 "
        f"--store {store.path} --weights hub --precision fp32" in caught.value.hint
    )
    assert arrays.read("cls", allow_partial=True).table.sample_ids == table.sample_ids[4:8]
    assert arrays.counts() == Counts(done=4, unreadable=0, missing=6)


def test_a_pooling_that_is_not_stored(full) -> None:
    with pytest.raises(MissingFeaturesError, match=r"pooling 'map' is not stored.*Stored: cls, avg_patch.*extract"):
        full.read("map")


def test_counts_by_pooling(store, make_table, make_entry, make_block) -> None:
    table = make_table(10)
    arrays = make_entry(store, table)
    arrays.write_block(0, make_block(table.sample_ids[:4], poolings=["cls"], unreadable=[0]))
    assert arrays.counts("cls") == Counts(3, 1, 6)
    assert arrays.counts("avg_patch") == arrays.counts() == Counts(0, 0, 10)
    assert arrays.nbytes == 10 * (3 + 5) * 2


def test_nothing_is_pending_when_all_is_there(full, store, make_table) -> None:
    table, present = make_table(10), np.ones(10, dtype=bool)
    assert not full.pending(table.fingerprints, present).any()
    assert full.pending(table.fingerprints, present, poolings=["map"]).all()
    assert full.pending(table.fingerprints, np.arange(10) < 3, poolings=["map"]).tolist() == [True] * 3 + [False] * 7


def test_pending_reads_no_values(full, store, make_table) -> None:
    for pooling in ("cls", "avg_patch"):
        for block in range(3):
            chunk(store, full, f"{pooling}/values", block).unlink()
    assert not full.pending(make_table(10).fingerprints, np.ones(10, dtype=bool)).any()


def test_changed_appended_and_removed_rows(full, make_table) -> None:
    fingerprints = np.concatenate([make_table(10).fingerprints, np.array([5, 6], dtype=np.uint64)])
    fingerprints[3] += np.uint64(1)
    present = np.ones(12, dtype=bool)
    present[11] = False
    assert np.flatnonzero(full.pending(fingerprints, present)).tolist() == [3, 10]


def test_unreadable_rows_are_pending_only_when_changed_or_asked_for(store, make_table, make_entry, fill) -> None:
    table, present = make_table(10), np.ones(10, dtype=bool)
    arrays = make_entry(store, table)
    fill(arrays, table, unreadable=[1])
    assert not arrays.pending(table.fingerprints, present).any()
    assert np.flatnonzero(arrays.pending(table.fingerprints, present, retry_unreadable=True)).tolist() == [1, 5, 9]
    touched = table.fingerprints.copy()
    touched[5] += np.uint64(1)
    assert np.flatnonzero(arrays.pending(touched, present)).tolist() == [5]


def test_requests_are_remembered(full, store) -> None:
    full.add_request("one")
    full.add_request("two")
    full.add_request("one")
    (again,) = open_store(store.path).find()
    assert again.requests == ["one", "two"]


@pytest.mark.parametrize("name", ["cls/values", "cls/state", "sample_hash"])
@pytest.mark.parametrize("block", [0, 2])
def test_damage_is_seen_at_reading(full, store, damage, name: str, block: int) -> None:
    damage(chunk(store, full, name, block))
    with pytest.raises(CorruptStoreError, match=rf"block {block} is damaged.*{name}.*skyprobe verify --repair"):
        full.read("cls")


def test_a_deleted_chunk_of_values_is_corrupt(full, store) -> None:
    chunk(store, full, "cls/values", 1).unlink()
    with pytest.raises(CorruptStoreError, match=r"block 1 has no values for rows that say done.*verify"):
        full.read("cls")
    full.read("avg_patch")


def test_a_deleted_chunk_of_states_is_missing(full, store) -> None:
    chunk(store, full, "cls/state", 1).unlink()
    with pytest.raises(MissingFeaturesError, match="4 of 10 rows"):
        full.read("cls")


def test_values_that_the_array_does_not_have_are_corrupt(full, store) -> None:
    store.storage.array(f"{full.path}/cls/values").resize((9, 3))
    with pytest.raises(CorruptStoreError, match="block 2 has no values"):
        full.read("cls")


def test_rows_of_other_samples_are_corrupt(full, store, make_block, make_table) -> None:
    names = list(make_table(10).sample_ids)
    other = open_store(store.path, mode="a")
    names[0], names[1] = names[1], names[0]
    revision = other.put_dataset(make_table(10))
    assert revision.tolist() == list(range(10))
    # A dataset folder from elsewhere: same number of rows, another order.
    store.storage.delete("datasets/galaxies")
    other.put_dataset(make_table(names))
    with pytest.raises(CorruptStoreError, match="row 0 and 1 more belong to other samples"):
        open_store(store.path).find()[0].read("cls")


def test_discarded_blocks_are_missing_and_can_be_written_again(full, make_table, make_block, expected) -> None:
    table = make_table(10)
    full.discard_block(1)
    assert full.counts() == Counts(6, 0, 4)
    assert np.flatnonzero(full.pending(table.fingerprints, np.ones(10, bool))).tolist() == [4, 5, 6, 7]
    full.write_block(1, make_block(table.sample_ids[4:8]))
    np.testing.assert_array_equal(full.read("cls").values, expected(table.sample_ids))


def test_reading_takes_the_rows_of_the_dataset_alone(full, store, make_table, expected) -> None:
    names = make_table(10).sample_ids
    store.put_dataset(make_table([name for row, name in enumerate(names) if row not in (0, 5)]))
    features = full.read("cls")
    assert features.table.sample_ids == names[1:5] + names[6:]
    np.testing.assert_array_equal(features.values, expected(features.table.sample_ids))
    assert full.counts() == Counts(8, 0, 0)


@pytest.mark.parametrize("rows", [[], [0], [3, 4, 9], [1, 2, 5, 8], list(range(10))])
def test_some_rows(store, make_table, make_entry, fill, expected, rows: list[int]) -> None:
    table = make_table(10)
    arrays = make_entry(store, table)
    fill(arrays, table, unreadable=[1])
    features = arrays.read("cls", rows=np.array(rows, dtype=np.int64))
    good = [row for row in rows if row % 4 != 1]
    assert features.table.sample_ids == tuple(table.sample_ids[row] for row in good)
    assert features.table.labels["peaks"].tolist() == table.labels["peaks"][good].tolist()
    np.testing.assert_array_equal(features.values, expected(features.table.sample_ids))
    assert set(features.unreadable) == {table.sample_ids[row] for row in rows} - set(features.table.sample_ids)


def test_rows_are_positions_in_the_dataset_as_it_is_now(full, store, make_table, expected) -> None:
    names = make_table(10).sample_ids
    store.put_dataset(make_table([name for row, name in enumerate(names) if row not in (0, 5)]))
    features = full.read("cls", rows=np.array([0, 4, 7]))
    assert features.table.sample_ids == (names[1], names[6], names[9])
    np.testing.assert_array_equal(features.values, expected(features.table.sample_ids))


@pytest.mark.parametrize("rows", [[-1, 2], [3, 10], [4, 3], [3, 3]])
def test_rows_that_are_no_ascending_positions(full, rows: list[int]) -> None:
    with pytest.raises(UsageError, match=r"rows must be ascending and lie within 0 \.\.\. 9.*numpy.unique"):
        full.read("cls", rows=np.array(rows))


def test_only_blocks_of_the_rows_are_read(full, store, damage) -> None:
    for name in ("cls/values", "cls/state", "sample_hash"):
        damage(chunk(store, full, name, 1))
    assert len(full.read("cls", rows=np.array([0, 3, 8])).values) == 3
    with pytest.raises(CorruptStoreError, match="block 1 is damaged"):
        full.read("cls", rows=np.array([0, 4]))


def test_only_the_rows_must_have_been_extracted(store, make_table, make_entry, make_block) -> None:
    table = make_table(10)
    arrays = make_entry(store, table)
    arrays.write_block(1, make_block(table.sample_ids[4:8]))
    assert arrays.read("cls", rows=np.array([4, 7])).table.sample_ids == (table.sample_ids[4], table.sample_ids[7])
    with pytest.raises(MissingFeaturesError, match="1 of 2 rows are not extracted"):
        arrays.read("cls", rows=np.array([7, 8]))
    partial = arrays.read("cls", rows=np.array([7, 8]), allow_partial=True)
    assert partial.table.sample_ids == table.sample_ids[7:8]
