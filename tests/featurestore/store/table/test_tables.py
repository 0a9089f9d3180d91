"""Tables of samples in segments of four rows: what is put is read, whoever puts what, in whatever order."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import CorruptStoreError, DatasetError
from featurestore.samples import UNLABELLED, Boxes, SampleTable
from featurestore.store import open_store
from featurestore.store.layout.storage import Storage
from featurestore.store.table import columns
from featurestore.store.table.tables import DatasetTables, default_block_rows
from featurestore.store.verify import verify


def assert_same(one: object, two: object) -> None:
    """Equal field by field, arrays included."""
    assert type(one) is type(two)
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(two, field.name)
        if field.name == "labels":
            assert list(mine) == list(theirs)
            mine, theirs = list(mine.values()), list(theirs.values())
        if field.name == "boxes" and mine is not None:
            assert_same(mine, theirs)
        else:
            np.testing.assert_equal(theirs, mine)


def ordered(table: SampleTable, rows: np.ndarray) -> SampleTable:
    """Rows of a table, its boxes in their order."""
    taken = table.take(rows)
    order = np.argsort(taken.boxes.row, kind="stable")
    return replace(taken, boxes=Boxes(*(getattr(taken.boxes, field.name)[order] for field in fields(Boxes))))


@pytest.fixture(autouse=True)
def small_segments(monkeypatch) -> None:
    monkeypatch.setattr(columns, "SEGMENT_ROWS", 4)


@pytest.fixture
def reopened(store):
    """The store as another process sees it."""
    return lambda: open_store(store.path)


def segments(store) -> set[str]:
    root = Path(store.path) / "datasets" / "galaxies" / "columns"
    return {path.parent.relative_to(root).as_posix() for path in root.rglob("c")}


@pytest.mark.parametrize("boxes", [False, True])
@pytest.mark.parametrize("n", [1, 4, 7, 9])
def test_a_table_survives(store, reopened, make_table, n: int, boxes: bool) -> None:
    table = make_table(n, boxes=boxes, sky=np.arange(2.0 * n).reshape(n, 2))
    assert store.put_dataset(table).tolist() == list(range(n))
    assert_same(reopened().dataset("galaxies"), table)
    assert verify(reopened()) == []


def test_a_table_without_labels_survives(store, reopened, make_table) -> None:
    table = make_table(3, labels={}, classes={})
    store.put_dataset(table)
    assert_same(reopened().dataset("galaxies"), table)


def test_boxes_are_ordered_by_sample_and_keep_their_order_within(store, reopened, make_table) -> None:
    table = make_table(9, boxes=True)
    shuffled = np.random.default_rng(0).permutation(18)
    boxes = table.boxes
    mixed = Boxes(*(getattr(boxes, field.name)[shuffled] for field in fields(boxes)))
    store.put_dataset(replace(table, boxes=mixed))
    found = reopened().dataset("galaxies").boxes
    assert (np.diff(found.row) >= 0).all()
    for row in range(9):
        np.testing.assert_array_equal(found.of(row), mixed.of(row))


@pytest.mark.parametrize(
    "change",
    [
        {"splits": np.array(["test"] * 9)},
        {"labels": {"peaks": np.zeros(9, int), "has/bar?": np.arange(9) % 2}},
        {"classes": {"peaks": ("one", "three"), "has/bar?": ("no", "yes")}},
        {"fingerprints": np.arange(9, dtype=np.uint64)},
        {"source": "elsewhere"},
        {"notice": "free"},
        {"groups": np.array(list("xxxyyyzzz"))},
    ],
)
def test_a_change_writes_the_columns_that_changed_and_deletes_what_they_were(
    store, reopened, make_table, change: dict
) -> None:
    store.put_dataset(make_table(9))
    before, revision = segments(store), store.tables.stored("galaxies").revision
    store.put_dataset(make_table(9, **change))
    assert store.tables.stored("galaxies").revision != revision
    changed = {"splits": "split", "labels": "label/peaks", "fingerprints": "stamp", "groups": "group"}
    touched = [changed[name] for name in change if name in changed]
    assert {path for path in before ^ segments(store) if not path.startswith(tuple(touched))} == set()
    assert_same(reopened().dataset("galaxies"), make_table(9, **change))
    assert verify(reopened()) == []


def test_appending_writes_new_segments_only(store, reopened, make_table) -> None:
    store.put_dataset(make_table(8))
    before = segments(store)
    store.put_dataset(make_table(11))
    assert before < segments(store)
    assert Counter(path.split("/")[0] for path in segments(store) - before).most_common(1) == [("label", 2)]
    assert_same(reopened().dataset("galaxies"), make_table(11))


def test_rows_never_move(store, reopened, make_table) -> None:
    store.put_dataset(make_table(["a00.png", "b01.png", "c02.png"], boxes=True))
    new = make_table(["e04.png", "c02.png", "a00.png", "d03.png", "f05.png"], version=1, boxes=True)
    rows = store.put_dataset(new)
    assert rows.tolist() == [3, 2, 0, 4, 5]
    again = reopened()
    assert again.sample_ids("galaxies") == ("a00.png", "b01.png", "c02.png", "e04.png", "d03.png", "f05.png")
    stored = again.tables.stored("galaxies")
    assert stored.present.tolist() == [True, False, True, True, True, True]
    assert_same(again.dataset("galaxies"), ordered(new, np.argsort(rows)))
    assert stored.table.labels["peaks"][1] == UNLABELLED
    assert stored.table.splits[1] == ""
    assert len(stored.table.boxes.of(1)) == 0
    assert_same(stored.take(np.array([2, 4])), ordered(new, np.array([1, 3])))


def test_a_reader_of_some_rows_reads_only_their_segments(store, reopened, make_table, monkeypatch) -> None:
    store.put_dataset(make_table(20, boxes=True))
    stored, read = reopened().tables.stored("galaxies"), []
    before = Storage.read_files
    monkeypatch.setattr(Storage, "read_files", lambda *args: (read.extend(args[1]), before(*args)))
    found = stored.take(np.array([5, 6]))
    assert_same(found, make_table(20, boxes=True).take(np.array([5, 6])))
    of_column = Counter(key.split("/columns/")[1].rpartition("/c/")[0].rpartition("/")[0] for key in read)
    assert set(of_column.values()) == {1}
    read.clear()
    assert stored.hashes(range(8, 12)).tolist() == make_table(20).id_hashes[8:12].tolist()
    assert len(read) == 1
    stored.hashes(range(9, 12))
    assert len(read) == 1, "the segment that was read last is kept"


IDS = st.lists(st.integers(0, 12), unique=True, min_size=1, max_size=8)


def numbered(numbers: list[int]) -> SampleTable:
    n = len(numbers)
    labels = {"x": np.array(numbers, dtype=np.int64)}
    names = tuple(f"id{number}" for number in numbers)
    fingerprints = np.array(numbers, dtype=np.uint64)
    return SampleTable("d", names, labels, {"x": tuple(map(str, range(13)))}, np.array(["train"] * n), fingerprints)


@given(st.lists(IDS, min_size=1, max_size=5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_history_keeps_rows(tmp_path_factory, history: list[list[int]], in_pieces: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "SEGMENT_ROWS", 4)
        store = open_store(str(tmp_path_factory.mktemp("s")), mode="a")
        before: tuple[str, ...] = ()
        for numbers in history:
            table = numbered(numbers)
            pieces = (table.take(np.arange(start, min(start + 3, len(table)))) for start in range(0, len(table), 3))
            rows = store.put_dataset(pieces if in_pieces else table)
            again = open_store(store.path)
            ids = tuple(again.sample_ids("d"))
            assert ids[: len(before)] == before
            assert [ids[row] for row in rows] == list(table.sample_ids)
            assert sorted(again.dataset("d").labels["x"].tolist()) == sorted(numbers)
            before = ids
        assert verify(open_store(store.path)) == []


@pytest.mark.parametrize("order", ["same", "reversed"])
def test_pieces_make_the_bytes_of_the_whole(store, tmp_path, make_table, order: str) -> None:
    table = make_table(11, boxes=True)
    given = table if order == "same" else table.take(np.arange(11)[::-1])
    other = open_store(str(tmp_path / "other"), mode="a", block_rows=4)
    for one in (store, other):
        one.put_dataset(table)
    rows = other.put_dataset(given)
    pieces = [given.take(np.arange(start, min(start + 4, 11))) for start in (0, 4, 8)]
    assert store.put_dataset(iter(pieces)).tolist() == rows.tolist()
    assert store.tables.stored("galaxies").revision == other.tables.stored("galaxies").revision


def test_pieces_that_do_not_belong_together_are_refused(store, make_table) -> None:
    names = make_table(6).sample_ids
    with pytest.raises(DatasetError, match="pieces of a dataset differ in source"):
        store.put_dataset(iter([make_table(names[:3]), make_table(names[3:], source="elsewhere")]))
    with pytest.raises(DatasetError, match="a dataset without a sample"):
        store.put_dataset(iter([]))
    assert store.datasets() == []


@pytest.mark.parametrize("known", [0, 3, 6])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 1], [4, 5, 5], [5, 0, 5], [0, 1, 2, 7, 0], [7, 8, 7]])
def test_a_sample_that_comes_in_two_pieces_is_refused(store, make_table, known: int, order: list[int]) -> None:
    names = make_table(9).sample_ids
    if known:
        store.put_dataset(make_table(names[:known]))
    (twice,) = {number for number in order if order.count(number) > 1}
    with pytest.raises(DatasetError, match=f"sample ids occur more than once: {names[twice]}"):
        store.put_dataset(make_table([names[number]]) for number in order)


def test_ids_with_the_same_hash_are_refused(store, make_table, monkeypatch) -> None:
    monkeypatch.setattr("featurestore.samples.hash_ids", lambda ids: np.zeros(len(ids), np.uint64))
    store.put_dataset(make_table(["a00.png"]))
    with pytest.raises(DatasetError, match=r"two sample ids have the same hash 0{16}: b01.png, and a00.png"):
        store.put_dataset(make_table(["b01.png"]))


@pytest.mark.parametrize("name", ["label/peaks", "sample_id", "present", "sample_hash"])
def test_damage_is_seen(store, reopened, make_table, damage, name: str) -> None:
    store.put_dataset(make_table(["a0.png", "b1.png", "c2.png", "d3.png", "e4.png"]).take(np.arange(5)))
    store.put_dataset(make_table(["a0.png", "b1.png", "c2.png", "d3.png"]))
    (chunk, *_) = sorted(
        path for path in (Path(store.path) / "datasets/galaxies/columns" / name).glob("*/c/**/*") if path.is_file()
    )
    damage(chunk)
    with pytest.raises(CorruptStoreError, match="the sample table is damaged: segment"):
        reopened().tables.stored("galaxies").columns[name].take(range(5))
    assert not verify(reopened())[0].repaired
    assert store.put_dataset(make_table(["a0.png", "b1.png", "c2.png", "d3.png"]), check=True).tolist() == [0, 1, 2, 3]
    assert verify(reopened()) == []


def test_a_segment_that_lies_elsewhere_is_seen(store, reopened, make_table) -> None:
    store.put_dataset(make_table(8))
    folders = sorted((Path(store.path) / "datasets/galaxies/columns/stamp").glob("*/c/0"))
    first, second = (path.read_bytes() for path in folders)
    folders[0].write_bytes(second)
    with pytest.raises(CorruptStoreError, match="another checksum than the revision says"):
        reopened().dataset("galaxies")
    assert first != second


def test_attributes_of_a_revision_are_bound_to_its_name(store, reopened, make_table) -> None:
    store.put_dataset(make_table(5))
    path = Path(store.path) / "datasets/galaxies" / store.tables.stored("galaxies").revision / "zarr.json"
    path.write_text(path.read_text().replace("one", "two"))
    with pytest.raises(CorruptStoreError, match=r"the sample table is damaged.*Extract the dataset again"):
        reopened().dataset("galaxies")


def test_two_that_put_different_listings_never_break_each_other(store, reopened, make_table) -> None:
    """Each switches to a revision of its own, and leaves what the other may be about to name."""
    store.put_dataset(make_table(5))
    other = open_store(store.path, mode="a")
    other.put_dataset(make_table(9))
    store.put_dataset(make_table(7))
    assert len(reopened().dataset("galaxies")) == 7
    other.put_dataset(make_table(9))
    assert_same(reopened().dataset("galaxies"), make_table(9))
    assert [problem for problem in verify(reopened()) if "damaged" in problem.what] == []


def test_large_datasets_have_large_blocks(tmp_path, make_table) -> None:
    assert [default_block_rows(rows) for rows in (1, 2**18 - 1, 2**18, 2**24 - 1, 2**24)] == [
        512,
        512,
        4096,
        4096,
        8192,
    ]
    store = open_store(str(tmp_path / "s"), mode="a")
    store.put_dataset(make_table(3))
    assert store.block_rows("galaxies") == open_store(store.path).block_rows("galaxies") == 512


def test_blocks_keep_their_size_as_a_dataset_grows(tmp_path, make_table, monkeypatch) -> None:
    store = open_store(str(tmp_path / "s"), mode="a")
    store.put_dataset(make_table(3))
    monkeypatch.setattr("featurestore.store.table.tables.default_block_rows", lambda rows: 4096)
    again = open_store(store.path, mode="a")
    again.put_dataset(make_table(5))
    assert again.block_rows("galaxies") == DatasetTables(again.storage, 2, None).block_rows("galaxies") == 512
