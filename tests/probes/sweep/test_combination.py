"""Features side by side: rows by sample id, keys that name their parts, and what does not go together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featurestore.errors import MissingFeaturesError, ProbeError
from featurestore.store import open_store
from featurestore.store.entry import DONE, UNREADABLE, Block
from probes.sweep.cache import task_digests
from probes.sweep.combination import combine, list_parts, read_key, split_names
from probes.sweep.plan import plan as plan_tasks
from probes.sweep.sweep import sweep

LABELS = np.arange(60) % 3
SPLITS = ["train"] * 40 + ["test"] * 20


@pytest.fixture
def parts(make_features, make_key):
    """Two matrices of the same samples, by two backbones."""
    first = make_features(LABELS, splits=SPLITS)
    key = make_key(backbone="net_c", weights_hash="1" * 64)
    second = make_features(LABELS, width=3, noise=2.0, splits=SPLITS, key=key, pooling="avgpool")
    return first, replace(second, backbone="net_c")


def test_values_stand_side_by_side(parts):
    both = combine(parts)
    np.testing.assert_array_equal(both.values, np.hstack([parts[0].values, parts[1].values]))
    assert both.table.sample_ids == parts[0].table.sample_ids
    assert (both.backbone, both.variant, both.pooling) == ("net_b+net_c", "full-224", "cls+avgpool")
    assert both.unreadable == {}


def test_one_matrix_is_given_back(parts):
    assert combine(parts[:1]) is parts[0]


def test_rows_are_matched_by_sample_id_and_the_others_left_out_with_a_reason(parts):
    first, second = parts
    order = np.random.default_rng(0).permutation(60)[:57]
    lost = sorted(set(range(60)) - set(order.tolist()))
    second = replace(second, values=second.values[order], table=second.table.take(order), unreadable={"s900": "empty"})
    first = replace(first, unreadable={second.table.sample_ids[0]: "cut off"})
    kept = np.setdiff1d(np.arange(60), [order[0], *lost])
    first = replace(first, values=np.delete(first.values, order[0], axis=0),
                    table=first.table.take(np.delete(np.arange(60), order[0])))  # fmt: skip
    both = combine([first, second])
    np.testing.assert_array_equal(both.values, np.hstack([parts[0].values[kept], parts[1].values[kept]]))
    assert both.table.sample_ids == tuple(f"s{row:03d}" for row in kept)
    assert both.table.labels["kind"].tolist() == LABELS[kept].tolist()
    reasons = {f"s{row:03d}": "not in all of net_b+net_c" for row in lost}
    assert both.unreadable == reasons | {f"s{order[0]:03d}": "cut off", "s900": "empty"}


def test_the_key_names_its_parts_and_changes_with_each_of_them(parts, make_key):
    first, second = parts
    key = combine(parts).key
    assert [part["key"] for part in key.preprocessing["parts"]] == [first.key.sha256, second.key.sha256]
    others = [
        combine([second, first]),
        combine([first, replace(second, key=make_key(backbone="net_c", precision="bf16"))]),
        combine([first, replace(second, pooling="cls")]),
        combine([first, replace(first, pooling="avg_patch")]),
        combine([first, second, replace(first, pooling="avg_patch")]),
    ]
    digests = {key.sha256, first.key.sha256, second.key.sha256} | {other.key.sha256 for other in others}
    assert len(digests) == 8
    assert combine(parts).key == key


def test_a_combination_of_a_combination_is_named_by_all_its_parts(parts):
    nested = combine([combine(parts), replace(parts[0], pooling="avg_patch")])
    assert nested.backbone == "net_b+net_c+net_b"
    assert nested.values.shape == (60, 4 + 3 + 4)


def test_matrices_that_do_not_go_together_are_refused(parts):
    first, second = parts
    with pytest.raises(ProbeError, match="the same features are in it twice"):
        combine([first, second, first])
    with pytest.raises(ProbeError, match="datasets toy and sky have no rows in common"):
        combine([first, replace(second, table=replace(second.table, name="sky"))])
    strangers = replace(second.table, sample_ids=tuple(f"t{row}" for row in range(60)))
    with pytest.raises(ProbeError, match=r"no sample has all features \[net_b\+net_c\]"):
        combine([first, replace(second, table=strangers)])


def test_heads_are_fitted_on_combined_features_as_on_any(parts):
    run = sweep(combine(parts), ["linear"], fractions=[100], seeds=1)[0]
    assert (run.backbone, run.n_features, run.key) == ("net_b+net_c", 7, combine(parts).key.short)
    linear = [task_digests(matrix, plan_tasks(matrix, ["linear"], seeds=1)) for matrix in (combine(parts), *parts)]
    assert len({name for names in linear for name in names}) == 12


def test_names_are_split_at_the_plus():
    assert split_names("dinov2-b+resnet-50") == ["dinov2-b", "resnet-50"]
    assert list_parts(["a", "b+a", "c"]) == ("a", "b", "c")


@pytest.fixture
def store(tmp_path, parts):
    """Both matrices in a store; the second backbone could not read the sample s004."""
    opened = open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=64)
    for part, broken in zip(parts, ([], [4]), strict=True):
        opened.put_dataset(part.table)
        arrays = opened.create(
            "toy", part.variant, part.backbone, part.key, {part.pooling: (part.values.shape[1],)}, {"weights": "hub"}
        )
        state = np.full(60, DONE, np.uint8)
        state[broken] = UNREADABLE
        reasons = dict.fromkeys(broken, "cut off")
        rows = np.zeros((60, 16), np.uint8)
        own = {"fingerprints": part.table.fingerprints, "sample_hashes": part.table.id_hashes}
        arrays.write_block(0, Block({part.pooling: part.values}, state, rows, reasons=reasons, **own))
    return opened


def test_a_key_is_read_from_the_store_whether_combined_or_not(store):
    alone = [store.load("toy", "full-224", name) for name in ("net_b", "net_c")]
    both = combine(alone)
    assert both.unreadable == {"s004": "cut off"}
    for expected in (both, *alone):
        found = read_key(store, "toy", expected.key, expected.pooling)
        np.testing.assert_array_equal(found.values, expected.values)
        assert found.key == expected.key


def test_a_part_that_the_store_lacks_is_told(store, parts):
    key = combine([parts[0], replace(parts[1], key=replace(parts[1].key, precision="bf16"))]).key
    with pytest.raises(MissingFeaturesError, match="skyprobe extract"):
        read_key(store, "toy", key, "cls+avgpool")
