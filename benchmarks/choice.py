"""What the choice of C is worth: test scores of the linear head against LogisticRegressionCV with ten folds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.embeddings import make_features
from benchmarks.row import Row
from probes.heads.linear import LinearProbe

DRAWS = 8
"""Draws of the training rows; all other rows are test rows."""

Data = tuple[NDArray[np.float32], NDArray[np.int64]]


def measure() -> Iterator[Row]:
    """Mean difference of the macro-F1 over draws of the training rows, of both heads on the same standardised rows."""
    for name, data, n_train, noise in _cases():
        mine, theirs = np.transpose([_score(data, n_train, noise, seed) for seed in range(DRAWS)])
        gaps = mine - theirs
        yield Row(
            f"macro-F1, cv less LogisticRegressionCV(cv=10), {n_train} rows of {name}",
            "F1",
            float(mine.mean()),
            float(gaps.mean()),
            goal=-0.005,
            peers={"LogisticRegressionCV": float(theirs.mean())},
            note=f"means of {DRAWS} draws, standard error of the difference {gaps.std(ddof=1) / DRAWS**0.5:.4f}",
        )


def _cases() -> Iterator[tuple[str, Data, int, float]]:
    """Name, data, training rows, and the share of training labels that are drawn anew."""
    rng = np.random.default_rng(0)
    X, y = load_digits(return_X_y=True)
    yield "digits, few labels", (X.astype(np.float32), y), 120, 0.0
    yield "digits", (X.astype(np.float32), y), 600, 0.0
    yield "digits in noise", ((X + rng.normal(scale=6, size=X.shape)).astype(np.float32), y), 300, 0.0
    yield "digits, a fifth of the labels wrong", (X.astype(np.float32), y), 300, 0.2
    features = make_features(3_000, 1, 256, 4)
    yield "generated features", (features.values, features.table.labels["kind"]), 300, 0.0
    X, y = make_classification(
        4_000, 100, n_informative=12, n_redundant=60, n_classes=3, weights=[0.75, 0.2, 0.05], flip_y=0.05,
        class_sep=0.7, random_state=0,
    )  # fmt: skip
    yield "unequal classes", (X.astype(np.float32), y), 400, 0.0


def _score(data: Data, n_train: int, noise: float, seed: int) -> Sequence[float]:
    (X, y), rng = data, np.random.default_rng(seed)
    order = rng.permutation(len(y))
    train, test = order[:n_train], order[n_train:]
    labels = y[train].copy()
    wrong = rng.random(n_train) < noise
    labels[wrong] = rng.choice(np.unique(y), wrong.sum())
    heads: list[Any] = [LinearProbe(random_state=seed), make_pipeline(StandardScaler(), _make_peer())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer members than folds, fits that stop early
        return [f1_score(y[test], head.fit(X[train], labels).predict(X[test]), average="macro") for head in heads]


def _make_peer() -> LogisticRegressionCV:
    return LogisticRegressionCV(
        cv=10, scoring="f1_macro", class_weight="balanced", max_iter=1_000, use_legacy_attributes=False
    )
