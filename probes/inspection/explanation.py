"""How much of the features nuisance explains, and how well features tell the nuisance; both cross-validated."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.samples import SampleTable
from probes.inspection.nuisance import SAMPLE_ID
from probes.inspection.sampling import FeatureSample, Floats

ROWS = 4096
"""Images at most whose features are explained."""

FOLDS = 5
FEWEST_ROWS = 50
"""Images without which five folds say nothing."""

STRENGTHS = tuple(10.0**power for power in range(-2, 7))
"""Ridge penalties among which each training fold chooses by leaving each row out."""

Doubles = NDArray[np.float64]


def explain(sample: FeatureSample, table: SampleTable, nuisance: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Shares of variance, both ways, for each quantity and for all of them together.

    A quantity enters by the normal scores of its ranks, so that units and stretches do not matter. Whole groups lie in
    one fold.

    Args:
        sample: Centred features; the first 4096 rows are used.
        table: The samples of the feature matrix that `sample` was drawn from.
        nuisance: A line an image: ``sample_id`` and quantities; quantities that do not vary are left out.
        seed: Seed of the folds.

    Returns:
        A line for each quantity and one for ``all``: ``features_from_quantity`` and ``quantity_from_features`` (R^2,
        at most 1, below 0 if worse than the mean; the second is NaN for ``all``), ``rows``. Empty without quantities.
    """
    quantities = nuisance.set_index(SAMPLE_ID).reindex(sample.sample_ids[:ROWS])
    quantities = quantities.loc[:, quantities.max() > quantities.min()]
    lines = [_explain_one(sample, table, quantities[[name]], seed) for name in quantities]
    if len(lines) > 1:
        lines.append(_explain_one(sample, table, quantities, seed))
    columns = ["quantity", "features_from_quantity", "quantity_from_features", "rows"]
    return pd.DataFrame(lines, columns=columns)


def _explain_one(
    sample: FeatureSample, table: SampleTable, quantities: pd.DataFrame, seed: int
) -> tuple[str, float, float, int]:
    known = np.flatnonzero(quantities.notna().all(axis=1))
    alone = quantities.shape[1] == 1
    name = str(quantities.columns[0]) if alone else "all"
    scores, values = quantities.to_numpy()[known], sample.values[known]  # noqa: PD011  (no data frame)
    groups = _units(table, sample.rows[known])
    if len(known) < FEWEST_ROWS or len(set(groups)) < FOLDS or not values.std(axis=0).any():
        return name, float("nan"), float("nan"), len(known)
    backward = _predict_quantity(values, scores, groups, seed) if alone else float("nan")
    return name, _predict_features(values, scores, groups, seed), backward, len(known)


def _predict_features(values: Floats, quantities: Doubles, groups: list[str], seed: int) -> float:
    """Share of the variance of all features, ``1 - sum |y - y^|^2 / sum |y - mean|^2`` over held-out rows.

    The prediction is ridge regression on quantities, their squares and products.
    """
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    steps = [PolynomialFeatures(2, include_bias=False), StandardScaler(), Ridge()]
    return _score(steps, _normal_scores(quantities), values.astype(np.float64), groups, seed)


def _predict_quantity(values: Floats, quantity: Doubles, groups: list[str], seed: int) -> float:
    """The same share for one quantity, by ridge regression on all features."""
    from sklearn.linear_model import RidgeCV

    return _score([RidgeCV(alphas=STRENGTHS)], values.astype(np.float64), _normal_scores(quantity), groups, seed)


def _score(steps: list[object], X: Doubles, Y: Doubles, groups: list[str], seed: int) -> float:
    from sklearn.metrics import r2_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(make_pipeline(*steps), X, Y, groups=groups, cv=folds)
    return float(r2_score(Y, predicted.reshape(Y.shape), multioutput="variance_weighted"))


def _normal_scores(quantities: Doubles) -> Doubles:
    """Quantiles of the normal distribution at the mean ranks (n, q), ``(rank - 1/2) / n``."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return np.asarray(ndtri((rankdata(quantities, axis=0) - 0.5) / len(quantities)))


def _units(table: SampleTable, rows: NDArray[np.int64]) -> list[str]:
    """What has to stay together: the group of a row, or the row itself."""
    names = [table.sample_ids[row] for row in rows]
    if table.groups is None:
        return names
    return [str(table.groups[row]) or f"\0{name}" for row, name in zip(rows, names, strict=True)]
