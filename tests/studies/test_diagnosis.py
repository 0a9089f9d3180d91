"""The stage of a study that diagnoses: what it writes and tells, and images that are not at hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from probes.diagnostics.findings import FRAMES
from studies.diagnosis import diagnose_study

SPLIT = "split given by the dataset: 40 train, 0 valid, 20 test"


@pytest.fixture
def features(make_features, tmp_path):
    made = make_features([0, 1] * 30, splits=["train"] * 40 + ["test"] * 20)
    return replace(made, table=replace(made.table, source=str(tmp_path / "gone")))


def test_every_table_carries_the_split_and_it_is_told(features, dict_store, reporter, tmp_path):
    other = replace(features, backbone="net_c", values=features.values[:, ::-1].copy())
    found = diagnose_study([features, other], dict_store, reporter, tmp_path)
    assert f"toy (kind): {SPLIT}" in reporter.notices
    assert all(SPLIT[1:] in text for text in found.tables)
    written = {name: pd.read_csv(tmp_path / f"toy-{name}.csv") for name in FRAMES if name != "covariates"}
    assert all((frame["split"] == SPLIT).all() and len(frame) for frame in written.values())


def test_without_images_the_user_is_told_and_own_columns_are_explained(features, dict_store, reporter, tmp_path):
    columns = tmp_path / "own.csv"
    order = np.argsort(features.values[:, 1])
    ids = np.array(features.table.sample_ids)[order]
    pd.DataFrame({"sample_id": ids, "rank": np.arange(60)}).to_csv(columns, index=False)
    found = diagnose_study([features], dict_store, reporter, tmp_path / "out", columns=columns)
    assert any(text.startswith("Brightness, noise and size of toy are not measured") for text in reporter.notices)
    explained = pd.read_csv(found.files["toy-covariates.csv"]).set_index("quantity")
    assert explained.loc["rank", "quantity_from_features"] > 0.5
