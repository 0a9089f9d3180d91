"""Tables and figures of diagnostics state images and measures."""

import numpy as np
import pandas as pd
import pytest

from probes.diagnostics.diagnose import diagnose_features
from studies.report.diagnostics import SHOWN, captioned_figures, tables


@pytest.fixture
def found(make_features, make_key):
    splits = ["train"] * 80 + ["test"] * 40
    labels = np.arange(120) % 3
    matrices = [
        make_features(labels, width=6, splits=splits, key=make_key(backbone=name), variant=variant)
        for name, variant in (("net_b", "full-224"), ("net_b", "center-224"))
    ]
    values = matrices[0].values
    values[100] = values[3]
    covariates = pd.DataFrame({"sample_id": matrices[0].table.sample_ids, "flux": np.arange(120.0)})
    return diagnose_features(matrices, covariates)


def test_what_is_shown_states_images_and_measures(found):
    captions = " ".join(table.caption for table in tables(found))
    told = "Split given by the dataset: 80 train, 0 valid, 40 test."
    assert all(table.caption.endswith(told) for table in tables(found))
    assert "Effective rank and intrinsic dimension of the features of 120 images" in captions
    assert "debiased linear CKA over 120 common images" in captions
    assert "Share of the variance of the features that each quantity of the image explains" in captions


def test_of_each_reason_the_worst_are_shown(found):
    flagged = next(table.frame for table in tables(found) if "flagged images" in table.caption)
    assert flagged.groupby(["features", "reason"]).size().max() == SHOWN
    assert ("s100", "s003") in set(zip(flagged["sample_id"], flagged["other_id"], strict=True))


def test_figures_have_contact_sheets_where_images_are_at_hand(found):
    seen = []

    def read(variant, sample):
        seen.append((variant, sample))
        return np.zeros((8, 8, 3), np.uint8)

    drawn = captioned_figures(found, read)
    names = [figure.name for figure in drawn]
    assert names[:3] == ["toy-rank-spectrum", "toy-cka", "toy-covariates"]
    assert len(names) == 5
    assert all("flagged" in name for name in names[3:])
    assert {variant for variant, _ in seen} == {"full-224", "center-224"}
    assert [figure.name for figure in captioned_figures(found)] == names[:3]
