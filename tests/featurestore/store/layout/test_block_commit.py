from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from featurestore.errors import BackboneError, StorageOverflowError, StorageUnderflowError, StoreError
from featurestore.store.layout.blocked_array import BlockedArray
from featurestore.store.layout.key_arrays import COLUMNS, DONE, MISSING, UNREADABLE, KeyArrays


@pytest.fixture
def arrays(store, make_table, make_entry):
    return make_entry(store, make_table(10))


def stored(arrays: Any) -> KeyArrays:
    return arrays.arrays()


def states(arrays: Any, pooling: str) -> list[int]:
    return stored(arrays).state(pooling).read_all(10).tolist()


def ids(arrays: Any) -> tuple[str, ...]:
    return arrays._load_table().all_ids()


def test_a_block_is_what_was_written(arrays, make_block, expected) -> None:
    names = ids(arrays)
    block = make_block(names[4:8], unreadable=[2])
    arrays.write_block(1, block)
    held = stored(arrays)
    for pooling in ("cls", "avg_patch"):
        assert states(arrays, pooling) == [MISSING] * 4 + [DONE, DONE, UNREADABLE, DONE] + [MISSING] * 2
        values = held.values(pooling).read_all(10)
        np.testing.assert_array_equal(values[[4, 5, 7]], expected([names[4], names[5], names[7]], pooling))
        assert np.isnan(values[[0, 6, 8]]).all()
        assert values.dtype == np.float16
    np.testing.assert_array_equal(held.column("content").read_block(1), block.content)
    np.testing.assert_array_equal(held.column("stamp").read_block(1), block.fingerprints)
    assert arrays.unreadable() == {names[6]: f"cannot decode {names[6]}"}


def test_states_go_first_and_come_last(arrays, make_block, monkeypatch) -> None:
    arrays.write_block(0, make_block(ids(arrays)[:4]))
    written: list[tuple[str, list[int] | None]] = []
    write = BlockedArray.write_block

    def spy(self: BlockedArray, block: int, values: np.ndarray) -> None:
        written.append((self.path.rpartition(f"{arrays.path}/")[2], values.tolist() if "state" in self.path else None))
        write(self, block, values)

    monkeypatch.setattr(BlockedArray, "write_block", spy)
    arrays.write_block(0, make_block(ids(arrays)[:4], version=1))
    withdrawn, middle, given = written[:2], written[2:-2], written[-2:]
    assert sorted(withdrawn) == [("avg_patch/state", [MISSING] * 4), ("cls/state", [MISSING] * 4)]
    assert {name for name, _ in middle} == {
        *("cls/values", "avg_patch/values", "content", "stamp"),
        *("cls/check", "avg_patch/check", "check"),
    }
    assert sorted(given) == [("avg_patch/state", [DONE] * 4), ("cls/state", [DONE] * 4)]


def test_rows_that_were_not_computed_keep_what_the_store_has(arrays, make_block, expected) -> None:
    names = ids(arrays)
    arrays.write_block(0, make_block([names[0], names[1], None, None], unreadable=[1]))
    arrays.write_block(0, make_block([None, None, names[2], names[3]]))
    assert states(arrays, "cls")[:4] == [DONE, UNREADABLE, DONE, DONE]
    np.testing.assert_array_equal(
        stored(arrays).values("cls").read_all(10)[[0, 2, 3]], expected([names[0], names[2], names[3]])
    )
    assert list(arrays.unreadable()) == [names[1]]


def test_a_shorter_block_leaves_the_rest(arrays, make_block) -> None:
    names = ids(arrays)
    arrays.write_block(0, make_block(names[:4]))
    arrays.write_block(0, make_block(names[:2], version=1))
    assert states(arrays, "cls")[:4] == [DONE] * 4


def test_another_pooling_stays_while_the_image_is_the_same(arrays, make_block) -> None:
    names = ids(arrays)
    arrays.write_block(0, make_block(names[:4], poolings=["cls"]))
    assert states(arrays, "avg_patch")[:4] == [MISSING] * 4
    arrays.write_block(0, make_block(names[:4], poolings=["avg_patch"]))
    assert states(arrays, "cls")[:4] == states(arrays, "avg_patch")[:4] == [DONE] * 4


def test_another_pooling_goes_missing_when_the_image_changes(arrays, make_block) -> None:
    names = ids(arrays)
    arrays.write_block(0, make_block(names[:4]))
    arrays.write_block(0, make_block([None, names[1], None, None], version=1, poolings=["avg_patch"]))
    assert states(arrays, "cls")[:4] == [DONE, MISSING, DONE, DONE]
    assert states(arrays, "avg_patch")[:4] == [DONE] * 4


def test_a_readable_image_may_become_unreadable_and_back(arrays, make_block) -> None:
    names = ids(arrays)
    arrays.write_block(0, make_block(names[:4]))
    arrays.write_block(0, make_block([names[0], None, None, None], version=1, unreadable=[0]))
    assert states(arrays, "cls")[:4] == [UNREADABLE, DONE, DONE, DONE]
    assert np.isnan(stored(arrays).values("cls").read_all(10)[0]).all()
    arrays.write_block(0, make_block([names[0], None, None, None], version=2))
    assert states(arrays, "cls")[:4] == [DONE] * 4
    assert not stored(arrays).column("reason").read_block(0).any()


def test_the_bytes_do_not_depend_on_the_history(store, make_table, make_entry, make_block) -> None:
    one, two = (make_entry(store, make_table(10), revision=name) for name in ("a", "b"))
    names = ids(one)
    one.write_block(0, make_block(names[:4], unreadable=[3]))
    two.write_block(0, make_block(names[:4], version=1, unreadable=[0]))
    two.write_block(0, make_block([None, names[1], None, None], version=2))
    two.write_block(0, make_block(names[:4], unreadable=[3]))
    for name in ("cls/values", "cls/state", "avg_patch/values", *COLUMNS):
        first, second = (BlockedArray(store.storage, f"{arrays.path}/{name}").read_block(0) for arrays in (one, two))
        assert first.tobytes() == second.tobytes()


def test_a_long_reason_is_cut(arrays, make_block) -> None:
    block = make_block(ids(arrays)[:1], unreadable=[0])
    arrays.write_block(0, replace(block, reasons={0: "é" * 200}))
    assert list(arrays.unreadable().values()) == ["é" * 80]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(arrays, make_block, bad: float) -> None:
    block = make_block(ids(arrays)[:4])
    block.values["cls"][2, 1] = bad
    with pytest.raises(BackboneError, match=r"é002.png are not finite.*block 0.*--precision fp32"):
        arrays.write_block(0, block)
    assert states(arrays, "avg_patch")[:4] == [MISSING] * 4


def test_unreadable_rows_may_hold_anything(arrays, make_block) -> None:
    block = make_block(ids(arrays)[:4], unreadable=[2])
    block.values["cls"][2] = np.nan
    arrays.write_block(0, block)
    assert states(arrays, "cls")[:4] == [DONE, DONE, UNREADABLE, DONE]


@pytest.mark.parametrize(("largest", "fits"), [(65504.0, True), (65519.0, True), (65520.0, False), (-1e9, False)])
def test_a_row_that_overflows_float16_is_marked(arrays, make_block, largest: float, fits: bool) -> None:
    """In every pooling, and the others of its block are stored."""
    block = make_block(ids(arrays)[:4])
    block.values["cls"][1, 0] = largest
    arrays.write_block(0, block)
    state = DONE if fits else UNREADABLE
    assert states(arrays, "cls")[:4] == states(arrays, "avg_patch")[:4] == [DONE, state, DONE, DONE]
    reason = f"the features reach {abs(largest):.4g}, too much for float16: use --dtype float32"
    assert list(arrays.unreadable().values()) == ([] if fits else [reason])
    np.testing.assert_array_equal(arrays.read("cls", allow_partial=True).values[-1], block.values["cls"][3])


def test_rows_that_all_overflow_float16_are_refused(arrays, make_block) -> None:
    """The storage type is the mistake, not the images."""
    block = make_block(ids(arrays)[:4])
    block.values["avg_patch"][:] = 1e9
    with pytest.raises(StorageOverflowError, match=r"é000.png reach 1e\+09, too much for float16.*--dtype float32"):
        arrays.write_block(0, block)
    assert states(arrays, "cls")[:4] == [MISSING] * 4


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ([3e-8, -2e-8, 1e-9], False),  # the smallest float16 is 6e-8: two of the three become zero
        ([1e-6, 2e-6, 1.03e-6], False),  # not zero, but wrong by percents
        ([6.2e-5, 1e-4, 1.0], True),  # normal numbers
        ([0.0, 0.0, 0.0], True),  # exact zeros are no loss
        ([0.0, 0.0, 1e-9], False),  # all that there is would be lost
    ],
)
def test_float16_underflow_is_refused(arrays, make_block, values: list[float], fits: bool) -> None:
    block = make_block(ids(arrays)[:4])
    block.values["cls"][2] = values
    if fits:
        arrays.write_block(0, block)
        return
    with pytest.raises(StorageUnderflowError, match=r"% of the features of .*é002.png are too small.*--dtype float32"):
        arrays.write_block(0, block)
    assert states(arrays, "cls")[:4] == [MISSING] * 4


def test_a_few_tiny_values_beside_large_ones_do_no_harm(store, make_table, make_entry, make_block) -> None:
    entry = make_entry(store, make_table(4), {"cls": (20,)})
    block = make_block(ids(entry)[:4], poolings=["cls"])
    wide = np.ones((4, 20), np.float32)
    wide[0, :2] = 1e-9  # a tenth of them
    entry.write_block(0, replace(block, values={"cls": wide}))
    wide[0, 2] = 1e-9
    with pytest.raises(StorageUnderflowError, match="15% of the features"):
        entry.write_block(0, replace(block, values={"cls": wide}))


def test_float32_is_kept_exactly(store, make_table, make_entry, make_block) -> None:
    arrays = make_entry(store, make_table(10), dtype="float32")
    block = make_block(ids(arrays)[:4])
    block.values["cls"][0] = [1e30, 1 / 3, -1e-40]
    arrays.write_block(0, block)
    np.testing.assert_array_equal(stored(arrays).values("cls").read_all(10)[0], block.values["cls"][0])


@pytest.mark.parametrize("number", [2, 3, 9])
def test_rows_without_samples_are_refused(arrays, make_block, number: int) -> None:
    with pytest.raises(
        StoreError, match=r"does not fit: more rows than samples.*Run the same command again.*put_dataset"
    ):
        arrays.write_block(number, make_block(ids(arrays)[:4]))


def test_a_pooling_that_was_not_announced_is_refused(arrays, make_block) -> None:
    block = make_block(ids(arrays)[:4])
    strange = replace(block, values={"map": block.values["cls"]})
    with pytest.raises(StoreError, match="does not fit: map"):
        arrays.write_block(0, strange)
    with pytest.raises(StoreError, match="does not fit: cls"):
        arrays.write_block(0, replace(strange, values={"cls": block.values["avg_patch"]}))
