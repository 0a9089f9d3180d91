"""What a store holds, as rows."""

from __future__ import annotations

import json

import numpy as np

from featurestore.store.inventory import describe, explain_keys, list_store, summarise

PLACE = ("galaxies", "resize=224,crop=box:0.2", "timm:resnet18.a1_in1k")


def test_an_empty_store_has_no_rows(store):
    assert list_store(store) == []


def test_one_row_for_each_feature_matrix(store, make_table, make_entry, fill, full):
    other = make_entry(store, make_table(10), precision="bf16")
    fill(other, make_table(10).take(np.arange(4)))
    rows = {row["key"]: row for row in list_store(store)}
    assert rows == {arrays.key.short: summarise(arrays) for arrays in (full, other)}
    whole, part = rows[full.key.short], rows[other.key.short]
    assert (whole["dataset"], whole["variant"], whole["backbone"]) == PLACE
    assert whole["poolings"] == "cls(3),avg_patch(5)"
    assert (whole["done"], whole["unreadable"], whole["missing"]) == (10, 0, 0)
    assert (part["done"], part["missing"]) == (4, 6)


def test_megabytes_count_a_million_bytes(store, make_table, make_entry):
    arrays = make_entry(store, make_table(10), {"cls": (10_000,)}, dtype="float32")
    assert summarise(arrays)["megabytes"] == 0.4


def test_a_description_has_the_key_in_full_and_the_reasons(store, make_table, make_entry, make_block):
    table = make_table(4)
    arrays = make_entry(store, table)
    arrays.write_block(0, make_block(table.sample_ids, unreadable=[2]))
    shown = describe(arrays)
    assert shown["unreadable_images"] == {table.sample_ids[2]: f"cannot decode {table.sample_ids[2]}"}
    assert shown["key_fields"] == arrays.key.to_dict()
    assert (shown["sha256"], shown["provenance"]) == (arrays.key.sha256, dict(arrays.provenance))
    assert shown.items() >= summarise(arrays).items()
    json.dumps(shown)


def test_only_fields_that_differ_are_explained(store, make_table, make_entry):
    table = make_table(4)
    crop = {"resize": 224, "crop": {"kind": "box", "margin": 0.4}}
    found = [make_entry(store, table, **key) for key in ({}, {"precision": "bf16"}, {"preprocessing": crop})]
    names = [f"{PLACE[1]}/{PLACE[2]}/{arrays.key.short}" for arrays in found]
    assert explain_keys(found) == [
        {"field": "precision"} | dict(zip(names, ("fp32", "bf16", "fp32"), strict=True)),
        {"field": "preprocessing.crop.margin"} | dict(zip(names, (0.2, 0.2, 0.4), strict=True)),
    ]


def test_equal_or_no_keys_need_no_explanation(full):
    assert explain_keys([]) == explain_keys([full]) == explain_keys([full, full]) == []
