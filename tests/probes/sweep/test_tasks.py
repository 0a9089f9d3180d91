"""Tasks build their heads; the origin of runs follows labels, heads and libraries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probes.heads.linear import LinearProbe
from probes.sweep.plan import plan
from probes.sweep.tasks import digest_origin


def test_a_task_builds_the_head_that_was_asked_for(toy_features):
    (task,) = plan(toy_features, ["linear"], fractions=[50], seeds=[3], options={"linear": {"Cs": [0.5]}})
    head = task.build()
    assert isinstance(head, LinearProbe)
    assert (head.protocol, head.random_state, head.Cs) == ("cv", 3, [0.5])
    assert task.build() is not head


@pytest.mark.parametrize("field", ["labels", "splits", "groups", "sample_ids"])
def test_the_origin_follows_what_decides_the_rows(make_table, field):
    table = make_table([0, 1] * 5)
    changed = {
        "labels": {"kind": np.array([1, 0] * 5)},
        "splits": np.array(["train"] * 8 + ["test"] * 2),
        "groups": np.array(["a"] * 10),
        "sample_ids": tuple(f"t{row}" for row in range(10)),
    }
    assert digest_origin(table, "kind") == digest_origin(make_table([0, 1] * 5), "kind")
    assert digest_origin(table, "kind") != digest_origin(replace(table, **{field: changed[field]}), "kind")


@pytest.mark.parametrize(
    ("name", "value"),
    [("REVISION", -1), ("library_versions", lambda _: {}), ("backend_versions", lambda: {"cupy": "1"})],
)
def test_the_origin_follows_what_computes(make_table, monkeypatch, name, value):
    before = digest_origin(make_table([0, 1] * 5), "kind")
    monkeypatch.setattr(f"probes.sweep.tasks.{name}", value)
    assert digest_origin(make_table([0, 1] * 5), "kind") != before
