"""How much of the features covariates explain, and how well features tell covariates; both cross-validated."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.samples import SampleTable
from probes.diagnostics.covariates import SAMPLE_ID
from probes.diagnostics.sampling import FeatureSample, Floats
from probes.sweep.splits import Rows

ROWS = 4096
"""Images at most whose features are explained."""

FOLDS = 5
FEWEST_ROWS = 50
"""Images without which five folds say nothing."""

PENALTIES = tuple(10.0**power for power in range(-2, 7))
"""Ridge penalties among which each training fold chooses by leaving each row out."""

Doubles = NDArray[np.float64]


def explain(sample: FeatureSample, table: SampleTable, covariates: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Shares of variance, both ways, for each quantity and for all of them together.

    A quantity enters by the normal scores of its ranks, so that units and stretches do not matter. Whole groups lie in
    one fold.

    Args:
        sample: Centred features; the first 4096 rows are used.
        table: The samples of the feature matrix that `sample` was drawn from.
        covariates: A line an image: ``sample_id`` and quantities; quantities that do not vary are left out.
        seed: Seed of the folds.

    Returns:
        A line for each quantity and one for ``all``: ``features_from_quantity`` and ``quantity_from_features`` (R^2,
        at most 1, below 0 if worse than the mean; the second is NaN for ``all``), ``rows``. Empty without quantities.
    """
    quantities = covariates.set_index(SAMPLE_ID).reindex(sample.sample_ids[:ROWS])
    quantities = quantities.loc[:, quantities.max() > quantities.min()]
    told = _tell_quantities(sample, table, quantities, seed)
    parts = [quantities[[name]] for name in quantities]
    parts += [quantities] if len(parts) > 1 else []
    lines = []
    for part in parts:
        name = str(part.columns[0]) if part.shape[1] == 1 else "all"
        known = _known_rows(part)
        explained = _explain_features(sample, table, part, known, seed)
        lines.append((name, explained, told.get(name, float("nan")), len(known)))
    columns = ["quantity", "features_from_quantity", "quantity_from_features", "rows"]
    return pd.DataFrame(lines, columns=columns)


def _known_rows(quantities: pd.DataFrame) -> Rows:
    return np.flatnonzero(quantities.notna().all(axis=1))


def _say_nothing(values: Floats, groups: list[str]) -> bool:
    """Whether there are too few rows, or nothing varies."""
    return len(values) < FEWEST_ROWS or len(set(groups)) < FOLDS or not values.std(axis=0).any()


def _tell_quantities(
    sample: FeatureSample, table: SampleTable, quantities: pd.DataFrame, seed: int
) -> dict[str, float]:
    """How well features tell each quantity; those that are known of the same images share one decomposition."""
    alike: dict[bytes, list[str]] = {}
    for name in quantities:
        alike.setdefault(_known_rows(quantities[[name]]).tobytes(), []).append(str(name))
    found: dict[str, float] = {}
    for names in alike.values():
        known = _known_rows(quantities[names])
        values, groups = sample.values[known], _units(table, sample.rows[known])  # noqa: PD011  (no data frame)
        if not _say_nothing(values, groups):
            scores = _normal_scores(quantities[names].to_numpy()[known])
            found |= dict(zip(names, _predict_quantities(values, scores, groups, seed), strict=True))
    return found


def _explain_features(
    sample: FeatureSample, table: SampleTable, quantities: pd.DataFrame, known: Rows, seed: int
) -> float:
    values, groups = sample.values[known], _units(table, sample.rows[known])  # noqa: PD011  (no data frame)
    if _say_nothing(values, groups):
        return float("nan")
    return _predict_features(values, quantities.to_numpy()[known], groups, seed)


def _predict_features(values: Floats, quantities: Doubles, groups: list[str], seed: int) -> float:
    """Share of the variance of all features, ``1 - sum |y - y^|^2 / sum |y - mean|^2`` over held-out rows.

    The prediction is ridge regression on quantities, their squares and products.
    """
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    steps = [PolynomialFeatures(2, include_bias=False), StandardScaler(), Ridge()]
    features = values.astype(np.float64)
    predicted = _predict(steps, _normal_scores(quantities), features, groups, seed)
    return float(r2_score(features, predicted, multioutput="variance_weighted"))


def _predict_quantities(values: Floats, scores: Doubles, groups: list[str], seed: int) -> Doubles:
    """The same share for each quantity (n, q), by ridge regression on all features; float64 (q,)."""
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score

    model = [RidgeCV(alphas=PENALTIES, alpha_per_target=True)]
    predicted = _predict(model, values.astype(np.float64), scores, groups, seed)
    return np.asarray(r2_score(scores, predicted, multioutput="raw_values"))


def _predict(steps: list[object], X: Doubles, Y: Doubles, groups: list[str], seed: int) -> Doubles:
    """Predictions of held-out rows, in the shape of Y."""
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(make_pipeline(*steps), X, Y, groups=groups, cv=folds)
    return np.asarray(predicted.reshape(Y.shape))


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
