"""Planted covariates is explained, noise is not."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, rankdata
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GroupKFold

from probes.diagnostics.explanation import explain
from probes.diagnostics.sampling import draw_sample


def test_what_was_planted_is_explained(features_of):
    rng = np.random.default_rng(0)
    flux, noise = rng.lognormal(size=400), rng.normal(size=400)
    values = rng.normal(size=(400, 6))
    values[:, :3] += 4 * np.log(flux)[:, None]
    features = features_of(values)
    frame = pd.DataFrame({"sample_id": features.table.sample_ids, "flux": flux, "noise": noise, "height": 5.0})
    found = explain(draw_sample(features, 8192, 0), features.table, frame, 0).set_index("quantity")
    assert list(found.index) == ["flux", "noise", "all"]
    signal = 3 * 16 / (3 * 16 + 6)
    assert abs(found.loc["flux", "features_from_quantity"] - signal) < 0.05
    assert found.loc["flux", "quantity_from_features"] > 0.9
    assert found.loc["noise", "features_from_quantity"] < 0.02
    assert found.loc["noise", "quantity_from_features"] < 0.05
    assert np.isnan(found.loc["all", "quantity_from_features"])


def test_units_do_not_matter(features_of):
    rng = np.random.default_rng(1)
    flux = rng.lognormal(size=200)
    features = features_of(rng.normal(size=(200, 4)) + flux[:, None])
    ids = list(features.table.sample_ids)
    sample = draw_sample(features, 8192, 0)
    one, other = (
        explain(sample, features.table, pd.DataFrame({"sample_id": ids, "flux": unit}), 0)
        for unit in (flux, 1e6 * flux**3)
    )
    pd.testing.assert_frame_equal(one, other)


def test_shares_are_those_of_explicit_folds(features_of):
    """scikit-learn's estimators over the folds, written out: ridge on quantities, squares and products, and back."""
    rng = np.random.default_rng(2)
    quantities = rng.lognormal(size=(150, 2))
    values = rng.normal(size=(150, 4)) + np.log(quantities[:, :1]) * np.log(quantities[:, 1:])
    features = features_of(values)
    frame = pd.DataFrame({"sample_id": features.table.sample_ids, "a": quantities[:, 0], "b": quantities[:, 1]})
    sample = draw_sample(features, 8192, 3)
    found = explain(sample, features.table, frame, 3).set_index("quantity")
    scores = norm.ppf((rankdata(quantities[sample.rows], axis=0) - 0.5) / 150)
    X = sample.values.astype(np.float64)
    forward, back = np.empty((150, 4)), np.empty((150, 2))
    for train, test in GroupKFold(5, shuffle=True, random_state=3).split(X, groups=list(sample.sample_ids)):
        terms = np.column_stack([scores, scores**2, scores[:, :1] * scores[:, 1:]])
        terms = (terms - terms[train].mean(axis=0)) / terms[train].std(axis=0)
        forward[test] = Ridge().fit(terms[train], X[train]).predict(terms[test])
        for column in range(2):
            model = RidgeCV(alphas=10.0 ** np.arange(-2, 7)).fit(X[train], scores[train, column])
            back[test, column] = model.predict(X[test])
    share = 1 - ((X - forward) ** 2).sum() / ((X - X.mean(axis=0)) ** 2).sum()
    assert found.loc["all", "features_from_quantity"] == pytest.approx(share, rel=1e-6)
    assert found.loc["all", "features_from_quantity"] > found.loc["a", "features_from_quantity"]
    expected = 1 - ((scores - back) ** 2).sum(axis=0) / ((scores - scores.mean(axis=0)) ** 2).sum(axis=0)
    assert found.loc[["a", "b"], "quantity_from_features"].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert (found["rows"] == 150).all()


def test_images_of_one_group_do_not_explain_each_other(features_of):
    """Features and flux are those of the group, and groups have nothing in common: held-out groups are not told."""
    rng = np.random.default_rng(4)
    group = np.arange(200) // 5
    values = rng.normal(size=(40, 60))[group] + 0.01 * rng.normal(size=(200, 60))
    flux = rng.normal(size=40)[group]
    shares = {}
    for groups in (None, [f"g{number}" for number in group]):
        features = features_of(values, groups=groups)
        frame = pd.DataFrame({"sample_id": features.table.sample_ids, "flux": flux})
        found = explain(draw_sample(features, 8192, 0), features.table, frame, 0)
        shares[groups is None] = found["quantity_from_features"].item()
    assert shares[True] > 0.5
    assert shares[False] < 0.1


def test_too_few_images_or_groups_say_nothing(features_of):
    values = np.random.default_rng(5).normal(size=(60, 3))
    for n, groups in ((49, None), (60, ["a", "b", "c", "d"] * 15)):
        features = features_of(values[:n], groups=groups)
        frame = pd.DataFrame({"sample_id": features.table.sample_ids, "flux": values[:n, 0]})
        found = explain(draw_sample(features, 8192, 0), features.table, frame, 0)
        assert found[["features_from_quantity", "quantity_from_features"]].isna().all(axis=None)
    features = features_of(values[:50])
    frame = pd.DataFrame({"sample_id": features.table.sample_ids, "flux": values[:50, 0]})
    assert explain(draw_sample(features, 8192, 0), features.table, frame, 0).notna().all(axis=None)


def test_unknown_values_are_left_out(features_of):
    values = np.random.default_rng(6).normal(size=(80, 3))
    features = features_of(values)
    frame = pd.DataFrame({"sample_id": features.table.sample_ids, "flux": values[:, 0], "size": values[:, 1]})
    frame.loc[:9, "flux"] = np.nan
    found = explain(draw_sample(features, 8192, 0), features.table, frame[20:], 0).set_index("quantity")
    assert found["rows"].to_dict() == {"flux": 60, "size": 60, "all": 60}
    found = explain(draw_sample(features, 8192, 0), features.table, frame, 0).set_index("quantity")
    assert found["rows"].to_dict() == {"flux": 70, "size": 80, "all": 70}
