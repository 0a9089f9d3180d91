"""Options out of their range, and the tables by name."""

from __future__ import annotations

import pandas as pd
import pytest

from featurestore.errors import UsageError
from probes.diagnostics.findings import FRAMES, Diagnostics, DiagnosticsOptions


@pytest.mark.parametrize("option", [{"rows": 2}, {"outliers": -1}, {"threshold": 1.1}, {"threshold": -1.1}])
def test_options_out_of_range_are_refused(option):
    (name,) = option
    with pytest.raises(UsageError, match=rf"an option of the diagnostics is out of its range.*{name}={option[name]}"):
        DiagnosticsOptions(**option)


@pytest.mark.parametrize("option", [{"rows": 3}, {"outliers": 0}, {"threshold": 1.0}, {"threshold": -1.0}, {}])
def test_the_ends_of_the_range_are_allowed(option):
    assert DiagnosticsOptions(**option)


def test_tables_by_name():
    frames = {name: pd.DataFrame({"a": [number]}) for number, name in enumerate(FRAMES)}
    assert Diagnostics("toy", None, DiagnosticsOptions(), **frames).frames() == frames
