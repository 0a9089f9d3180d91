"""Planted nuisance is explained, noise is not."""

import numpy as np
import pandas as pd

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
