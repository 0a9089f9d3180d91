from __future__ import annotations

import json

import numpy as np

from probes.results.json_values import json_ready


def test_json_ready_keeps_values_and_replaces_what_json_lacks():
    value = {"a": np.float32(0.5), 3: (1, np.array([True])), "b": float("nan"), "c": None, "d": json_ready}
    ready = json_ready(value)
    assert ready["a"] == 0.5
    assert ready["3"] == [1, [True]]
    assert (ready["b"], ready["c"]) == ("nan", None)
    assert "json_ready" in ready["d"]
    assert json.loads(json.dumps(ready, allow_nan=False)) == ready
