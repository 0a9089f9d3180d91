"""Runs and saved heads in the store of format 1 that commit 3e1d752 wrote are read by every later version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from featurestore.store import open_store
from probes.heads.saved import list_heads, load_head
from probes.sweep.cache import RUNS, cached_runs
from probes.sweep.saving import predict

GOLDEN = Path(__file__).parents[2] / "featurestore" / "store" / "golden"
EXPECTED = json.loads((GOLDEN / "format-1.json").read_text())


def test_cached_runs_are_read() -> None:
    runs = {run.head: run for run in cached_runs(open_store(str(GOLDEN / "format-1")), RUNS, ["galaxies"])}
    assert runs.keys() == {"linear", "whitened"}
    for head, run in runs.items():
        np.testing.assert_array_equal(run.probabilities, np.array(EXPECTED["runs"][head], np.float32))
        assert run.protocol == "convex"  # another rule than cv, and told as such
        assert {"C", "Cs", "default_C"} <= run.params.keys()
        assert not {"strength", "strengths", "kind"} & run.params.keys()
        assert (run.fraction, run.seed, run.classes) == (100, 0, ("spiral", "elliptical"))
        assert run.sample_ids == tuple(f"sky/é{row:02d}.png" for row in range(14, 22))


def test_a_saved_head_predicts_what_it_predicted() -> None:
    store = open_store(str(GOLDEN / "format-1"))
    (saved,) = list_heads(store)
    assert saved.digest == EXPECTED["head"]
    found = predict(load_head(store, saved.short), store.select("galaxies").read("avgpool"))
    for name in ("p_spiral", "p_elliptical"):
        np.testing.assert_allclose(found[name], [row[name] for row in EXPECTED["predicted"]], rtol=1e-6)
